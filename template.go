package cube

// TemplateID names a template: what a sandbox starts from.
type TemplateID string

// Template is a named snapshot with the limits that its sandboxes get.
type Template struct {
	ID        TemplateID
	Aliases   []string // other names that create accepts
	Snapshot  SnapshotID
	Resources Resources
}

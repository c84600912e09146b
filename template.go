package cube

import "time"

// TemplateID names a template: what a sandbox starts from.
type TemplateID string

// Template is a named snapshot with the limits that its sandboxes get.
type Template struct {
	ID        TemplateID
	Aliases   []string // other names that create accepts
	Snapshot  SnapshotID
	Resources Resources
	// HostKey is what the agent in the snapshot's memory goes by, "" for one
	// without memory. A secret: never logged, never shown.
	HostKey  string
	Defaults Defaults
}

// Defaults are what the processes of a template's sandboxes have when nobody
// says otherwise.
type Defaults struct {
	EnvVars map[string]string // never logged: builds may put secrets into them
	User    string            // "" means "user"
	Workdir string            // "" means the user's home
}

// BuildStatus is how far a template's build is. The words are E2B's.
type BuildStatus string

// The states of a build. Error and Ready are final.
const (
	BuildWaiting  BuildStatus = "waiting" // asked for; nobody has said of what
	BuildBuilding BuildStatus = "building"
	BuildReady    BuildStatus = "ready"
	BuildError    BuildStatus = "error"
)

// BuildFailure is why a build did not become ready.
type BuildFailure struct {
	// Step is where: "base", the number of the step from 1, or "finalize". "" if
	// it was in none.
	Step    string
	Message string // for a person: E2B's words where it has some
}

// LogEntry is one line of a build's log.
type LogEntry struct {
	Time    time.Time
	Level   string // debug, info, warn or error
	Message string
	Step    string // as of BuildFailure
}

package cube

// SnapshotID names something that an engine can start a sandbox from.
type SnapshotID string

// BaseSnapshot is the snapshot that every engine has from its first start: a
// small Linux system with a "user" account and our agent in it.
const BaseSnapshot SnapshotID = "base"

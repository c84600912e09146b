package cube

import (
	"crypto/rand"
	"time"
)

// SnapshotID names something that an engine can start a sandbox from.
type SnapshotID string

// BaseSnapshot is the snapshot that every engine has from its first start: a
// small Linux system with a "user" account and our agent in it.
const BaseSnapshot SnapshotID = "base"

const (
	snapshotIDAlphabet = "abcdefghijklmnopqrstuvwxyz234567"
	snapshotIDRandom   = 24 // characters after the "s": 120 bits, not guessable
)

// NewSnapshotID returns an id that was never used before: "s" and 24 characters
// of a-z2-7, which a file name and a template's name can hold.
func NewSnapshotID() SnapshotID {
	id := make([]byte, 1+snapshotIDRandom)
	rand.Read(id)
	for i, b := range id {
		id[i] = snapshotIDAlphabet[b%32]
	}
	id[0] = 's'
	return SnapshotID(id)
}

// SnapshotInfo is a snapshot as its engine has it.
type SnapshotInfo struct {
	ID     SnapshotID
	Memory bool  // processes go on from it; else it holds files alone
	Bytes  int64 // that it takes on the engine's disk
}

// DefaultTag is the tag of a template or a snapshot that was given none.
const DefaultTag = "default"

// Snapshot is one that somebody asked for, as the store keeps it: what new
// sandboxes can start from until it is deleted.
type Snapshot struct {
	ID   SnapshotID
	Name string // "" for none
	Tag  string // of the name; DefaultTag without one
	// Sandbox is the one that was kept, which may be gone since.
	Sandbox   SandboxID
	Template  TemplateID // of that sandbox
	Alias     string     // of that sandbox
	Resources Resources
	CreatedAt time.Time // UTC, whole milliseconds
	Owner     Owner
	// Account is for whom it is counted: that of the Identity that asked for it.
	Account string
	Memory  bool
	Bytes   int64
	// HostKey is what the agent in its memory goes by. A secret: never logged,
	// never shown.
	HostKey string
	// EnvVars are those of the sandbox. Never logged, never shown.
	EnvVars       map[string]string
	User, Workdir string // those of the sandbox
}

package cube

import (
	"context"
	"time"
)

// Store keeps the rows of sandboxes: what should exist, and for a while why
// what existed is gone; and those of snapshots. All methods may be called concurrently; what one of
// them has written, every later call sees. A write that returned without an
// error outlives the server's death. Times come back in UTC and in whole
// milliseconds. storetest checks these promises.
type Store interface {
	// CreateSandbox adds a row. With a key that no row holds, the row holds it
	// from now on; nil means no key. Kind: Conflict (the id or the key is in
	// use; nothing was written).
	CreateSandbox(ctx context.Context, s Sandbox, key *Idempotency) error

	// UpdateSandbox replaces State, EndAt, Expiry, Snapshot, SnapshotMemory, Internet,
	// Network and End of the row of s.ID, if its state is from. A sandbox that goes from Starting
	// to Killing never ran, so that row gives its key free in the same write. One
	// that becomes Gone loses its EnvVars, Metadata and Network: rows of ended ones are many,
	// and these may be large and secret. One that becomes Paused does so for good,
	// and one that was Resuming, whose snapshot goes next: the write outlives the
	// machine's power too. Kinds: NotFound, Conflict (its
	// state is another; nothing was written).
	UpdateSandbox(ctx context.Context, from State, s Sandbox) error

	// Sandbox returns one row. Kind: NotFound.
	Sandbox(ctx context.Context, id SandboxID) (Sandbox, error)

	// SandboxByKey returns the row that holds an idempotency key, and the hash
	// that the key came with. Kind: NotFound.
	SandboxByKey(ctx context.Context, key string) (Sandbox, [32]byte, error)

	// ListSandboxes returns the rows that match, in the order of the query, and
	// how many rows match its filters before After and Limit.
	ListSandboxes(ctx context.Context, q SandboxQuery) (list []Sandbox, total int, err error)

	// DeleteGone removes rows in state Gone: those that ended before the given
	// time, and the oldest ends of those above keep. It returns how many.
	DeleteGone(ctx context.Context, endedBefore time.Time, keep int) (int, error)

	// CreateSnapshot adds a row and removes those that it replaces, all or nothing.
	// The write outlives the machine's power too. Kind: Conflict (the id is in
	// use; nothing was written).
	CreateSnapshot(ctx context.Context, s Snapshot, replaces []SnapshotID) error

	// Snapshot returns one row. Kind: NotFound.
	Snapshot(ctx context.Context, id SnapshotID) (Snapshot, error)

	// ListSnapshots returns the rows that match, newest first.
	ListSnapshots(ctx context.Context, q SnapshotQuery) ([]Snapshot, error)

	// DeleteSnapshot removes a row. Of any number of calls for it one succeeds.
	// Kind: NotFound.
	DeleteSnapshot(ctx context.Context, id SnapshotID) error
}

// Idempotency makes a create repeatable: the same key with the same body is the
// same sandbox, however often it is asked for.
type Idempotency struct {
	Key      string
	BodyHash [32]byte // of the request that the key came with
}

// SandboxQuery selects rows. The zero value of a field filters nothing.
type SandboxQuery struct {
	States       []State
	Metadata     map[string]string // every pair must be there
	Template     TemplateID
	Owner        Owner     // only its fields that are set are compared
	StartedAfter time.Time // at or after it; cut to whole milliseconds

	Ascending bool           // oldest first; else newest first. The id decides between equals
	After     *SandboxCursor // only what follows it in this order
	Limit     int            // at most so many; 0 means all
}

// SandboxCursor is a place in the order of a list. No row need stand there.
type SandboxCursor struct {
	StartedAt time.Time
	ID        SandboxID
}

// SnapshotQuery selects snapshots. The zero value of a field filters nothing.
type SnapshotQuery struct {
	Owner   Owner // only its fields that are set are compared
	Sandbox SandboxID
	Name    string
	Tag     string

	After *SnapshotCursor // only what follows it
	Limit int             // at most so many; 0 means all
}

// SnapshotCursor is a place in the order of a list. No row need stand there.
type SnapshotCursor struct {
	CreatedAt time.Time
	ID        SnapshotID
}

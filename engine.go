package cube

import (
	"context"
	"io"
	"net"
	"time"
)

// AgentPort is the port on which the agent inside each sandbox (envd) listens.
const AgentPort uint16 = 49983

// Engine runs sandboxes. All methods may be called concurrently, also for the
// same sandbox. An engine keeps no record of its own beyond what it needs to
// find its sandboxes again: the store knows what should exist, the engine what
// does. enginetest checks these promises.
type Engine interface {
	// Start makes a sandbox from a snapshot. When it returns without an error
	// the agent answers on AgentPort. From a snapshot without memory it has not
	// been initialised; from one with memory every process goes on where it was,
	// and the agent has the settings, and the host key, that it was kept with.
	// The sandbox needs the snapshot no more then: what it has of it is its own.
	// On an error, also when ctx ends, nothing of the sandbox is left, and the
	// snapshot is as it was. Kinds: NotFound (no such snapshot), Invalid (limits
	// that the machine cannot give), Conflict (the id is in use), Exhausted,
	// Unsupported (a snapshot that this machine or version cannot start from),
	// Internal (also a snapshot that is damaged).
	Start(ctx context.Context, req StartRequest) (Timings, error)

	// Stop ends a sandbox and removes every trace of it: processes, network,
	// control groups, files. Idempotent: a sandbox that is not there is no
	// error. What cannot be removed is an error, and Stop can be called again.
	Stop(ctx context.Context, id SandboxID) error

	// Dial opens a stream to a TCP port inside, ports bound to 127.0.0.1
	// included. Kinds: NotFound (no such sandbox, or it just died), Unavailable
	// (the sandbox runs and nothing listens on the port).
	Dial(ctx context.Context, id SandboxID, port uint16) (net.Conn, error)

	// List returns the ids of all sandboxes of which anything exists, half-made
	// and half-removed ones included.
	List(ctx context.Context) ([]EngineSandbox, error)

	// Wait returns when the sandbox runs no more, for whatever reason, with what
	// the engine can tell of it, or when ctx ends. At once for one that is not
	// there. It removes nothing.
	Wait(ctx context.Context, id SandboxID) (Exit, error)

	// Stats returns what a running sandbox uses now. Kind: NotFound.
	Stats(ctx context.Context, id SandboxID) (Stats, error)

	// SetNetwork replaces what a running sandbox may reach, all at once: nothing
	// goes by the old rules when it returns, and connections that the new ones do
	// not allow have ended, or end at once. On an error the old ones
	// are in force. Kinds: NotFound (no such sandbox, or it just died), Invalid (a
	// policy that is none), Unsupported (one that this machine cannot hold).
	SetNetwork(ctx context.Context, id SandboxID, internet bool, policy NetworkPolicy) error

	// Checkpoint keeps a running sandbox's state as the snapshot req.Snapshot, so
	// that it outlives the machine's power, and leaves the sandbox frozen: nothing
	// in it runs, and what connects to it waits. Thaw or Stop comes next. On an
	// error, also when ctx ends, the sandbox runs on as before and nothing of the
	// snapshot is left. One at a time for a sandbox. Kinds: NotFound (no such
	// sandbox, or it just died), Conflict (the snapshot exists), Exhausted (no room
	// for it), Unsupported, Internal.
	Checkpoint(ctx context.Context, req CheckpointRequest) (SnapshotInfo, error)

	// AddImage makes a snapshot without memory of a container image: what starts from
	// it starts as from BaseSnapshot, over the image's files. On an error, also when
	// ctx ends, nothing of the snapshot is left. Kinds: Conflict (the snapshot
	// exists), Invalid (what is wrong with the image), Exhausted (no room for it),
	// Unsupported, Internal.
	AddImage(ctx context.Context, req ImageRequest) (SnapshotInfo, error)

	// Thaw lets a frozen sandbox run on. Idempotent: one that runs is no error.
	// Kind: NotFound.
	Thaw(ctx context.Context, id SandboxID) error

	// Snapshots returns those that Checkpoint made, whole ones alone.
	Snapshots(ctx context.Context) ([]SnapshotInfo, error)

	// Discard removes a snapshot. Idempotent: one that is not there is no error.
	// Kinds: Conflict (a sandbox is just starting from it), Invalid (it is not one
	// of those that Checkpoint made).
	Discard(ctx context.Context, id SnapshotID) error
}

// StartRequest is all that an engine needs to know to start a sandbox.
type StartRequest struct {
	ID SandboxID
	// Snapshot is BaseSnapshot or one that Checkpoint made.
	Snapshot  SnapshotID
	Resources Resources
	// Internet is whether the sandbox may reach addresses outside; private
	// ranges, the host and other sandboxes it may never reach.
	Internet bool
	// Network is what of the internet it may reach. It holds from the first packet.
	Network NetworkPolicy
}

// CheckpointRequest is all that an engine needs to know to keep a sandbox.
type CheckpointRequest struct {
	Sandbox  SandboxID
	Snapshot SnapshotID // one that was never used before
	Memory   bool       // false keeps the files alone
	// Layer keeps the files as a layer over what the sandbox started from, and
	// nothing else: slower to keep, and what starts from it has a disk that is
	// empty again, as if it were an image's. Without Memory only.
	Layer bool
}

// ImageRequest is a container image to become a snapshot without memory.
type ImageRequest struct {
	Snapshot SnapshotID // one that was never used before
	Layers   []ImageLayer
	// Prove has layers read and compared that the engine has already. Else whoever
	// knows the hash of a layer that somebody else brought would get its content by
	// claiming it.
	Prove bool
}

// ImageLayer is one layer of an image, the lowest first.
type ImageLayer struct {
	// DiffID is "sha256:" and the hash of the uncompressed layer in hexadecimal.
	// A layer that the engine has already is opened only for ImageRequest.Prove.
	DiffID string
	// Open returns the layer as an uncompressed tar file. What it holds is hostile:
	// the engine compares it with DiffID and unpacks it within bounds.
	Open func(context.Context) (io.ReadCloser, error)
}

// Timings is how long the stages of a start took. A stage that an engine does
// not have is zero.
type Timings struct {
	Queue   time.Duration // waiting for a free slot
	Root    time.Duration // preparing limits and the root file system
	Network time.Duration // interfaces, addresses, rules
	Boot    time.Duration // the sandbox's kernel, up to its first process
	Agent   time.Duration // the agent, up to its first answer
}

// EngineSandbox is one sandbox as an engine sees it.
type EngineSandbox struct {
	ID      SandboxID
	Running bool // false: half-made, half-removed or dead
}

// Exit is how a sandbox ended, as far as its engine can tell.
type Exit struct {
	OutOfMemory bool   // the memory limit ended it
	Detail      string // one sentence for the operator, "" if nothing is known
}

// Stats is what a sandbox uses.
type Stats struct {
	CPU         time.Duration // processor time since its start
	MemoryBytes int64         // resident, its kernel included
	Processes   int           // of the host's processes and threads, those that make up the sandbox
	Link        LinkStats     // since its start, or since it was resumed
}

// LinkStats is what has gone over a sandbox's link, in bytes, as the machine
// counts it: to the internet, and to and from the server.
type LinkStats struct {
	Sent, Received uint64
}

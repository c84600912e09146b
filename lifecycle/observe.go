package lifecycle

import (
	"context"
	"time"

	"cube"
)

// EventKind says what was done to a sandbox.
type EventKind string

// The kinds.
const (
	EventCreated EventKind = "created" // it runs
	EventTimeout EventKind = "timeout" // it has another deadline
	EventNetwork EventKind = "network" // it may reach something else
	EventPaused  EventKind = "paused"  // nothing of it runs; it is kept
	EventResumed EventKind = "resumed" // it runs again
	EventEnded   EventKind = "ended"   // it was decided that it ends
)

// Event is a step in the life of a sandbox, once its row says so. It holds no
// token, and nothing that a client wrote but the owner's names.
type Event struct {
	Kind     EventKind
	At       time.Time // UTC
	Sandbox  cube.SandboxID
	Template cube.TemplateID
	Owner    cube.Owner
	Deadline time.Time      // UTC
	Reason   cube.EndReason // of EventEnded
}

// observe tells whoever wants to know what was done to a sandbox. ctx is of the
// request that did it, or of none.
func (s *Sandboxes) observe(ctx context.Context, kind EventKind, sandbox cube.Sandbox) {
	if s.observer == nil {
		return
	}
	e := Event{
		Kind: kind, At: now(), Sandbox: sandbox.ID, Template: sandbox.Template, Owner: sandbox.Owner, Deadline: sandbox.EndAt,
	}
	if sandbox.End != nil {
		e.Reason = sandbox.End.Reason
	}
	s.observer(ctx, e)
}

// Owner returns to whom a sandbox belongs, whoever asks; the zero Owner if it
// is not there.
func (s *Sandboxes) Owner(id cube.SandboxID) cube.Owner {
	if l := s.find(id); l != nil {
		return l.owner
	}
	return cube.Owner{}
}

// Gauges are numbers of sandboxes of one moment.
type Gauges struct {
	Running int // those that start or end included
	Paused  int // those that are paused
	Pooled  int // that run for whoever comes next: see pool
	// SnapshotBytes is what the paused ones and the snapshots take on the disk.
	SnapshotBytes int64
}

// Gauges returns how many sandboxes there are now.
func (s *Sandboxes) Gauges() Gauges {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := Gauges{Running: s.count, Pooled: s.pool.count(), SnapshotBytes: s.quota.Held()}
	for _, l := range s.live {
		if !l.counted {
			g.Paused++
		}
	}
	return g
}

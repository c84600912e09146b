package lifecycle

import (
	"context"
	"maps"
	"net"
	"slices"
	"time"

	"cube"
)

// Get returns a sandbox that runs or is paused, or is becoming either. Kind: NotFound, which carries the End of one
// that has ended, for as long as its row is kept.
//
// To this and every other method that names a sandbox for the caller of ctx, one
// of another tenant is not there; a caller without a tenant is Forbidden.
func (s *Sandboxes) Get(ctx context.Context, id cube.SandboxID) (cube.Sandbox, error) {
	sandbox, err := s.row(ctx, id)
	if err != nil {
		return cube.Sandbox{}, err
	}
	switch sandbox.State {
	case cube.Running, cube.Pausing, cube.Paused, cube.Resuming:
		return sandbox, nil
	case cube.Starting, cube.Killing, cube.Gone:
	}
	return cube.Sandbox{}, notFound(sandbox)
}

// row is the row of a sandbox of the caller's.
func (s *Sandboxes) row(ctx context.Context, id cube.SandboxID) (cube.Sandbox, error) {
	sandbox, err := s.store.Sandbox(ctx, id)
	if err != nil {
		if cube.KindOf(err) == cube.NotFound {
			return cube.Sandbox{}, errNoSandbox(id)
		}
		return cube.Sandbox{}, err
	}
	return sandbox, s.mayTouch(ctx, id, sandbox.Owner)
}

// findFor is find for the caller of ctx; an error says why there is none.
func (s *Sandboxes) findFor(ctx context.Context, id cube.SandboxID) (*live, error) {
	l := s.find(id)
	if l == nil {
		return nil, s.notRunning(ctx, id)
	}
	return l, s.mayTouch(ctx, id, l.owner)
}

// FindByAccessToken returns the sandbox, running or paused, whose agent's token is one that
// match takes. It is called for each that has a token.
func (s *Sandboxes) FindByAccessToken(match func(token string) bool) (cube.SandboxID, bool) {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.live))
	s.mu.Unlock()
	for _, l := range all {
		if l.accessToken != "" && match(l.accessToken) {
			return l.id, true
		}
	}
	return "", false
}

// Dial opens a stream to a TCP port of a running sandbox, whoever asks: what
// runs inside decides with its own tokens. Kinds: NotFound, Unavailable
// (nothing listens there).
func (s *Sandboxes) Dial(ctx context.Context, id cube.SandboxID, port uint16) (net.Conn, error) {
	if !s.runs(id) {
		return nil, errNoSandbox(id)
	}
	return s.engine.Dial(ctx, id, port)
}

// Stats returns what a running sandbox uses. Kind: NotFound.
func (s *Sandboxes) Stats(ctx context.Context, id cube.SandboxID) (cube.Stats, error) {
	l, err := s.findFor(ctx, id)
	if err != nil {
		return cube.Stats{}, err
	}
	if isClosed(l.over()) {
		return cube.Stats{}, s.notRunning(ctx, id)
	}
	return s.engine.Stats(ctx, id)
}

// Done returns a channel that is closed when the sandbox runs no more, or is
// closed already if it does not run.
func (s *Sandboxes) Done(id cube.SandboxID) <-chan struct{} {
	if l := s.find(id); l != nil {
		return l.over()
	}
	return closed
}

var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (s *Sandboxes) runs(id cube.SandboxID) bool {
	return !isClosed(s.Done(id))
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// notRunning is the error for a sandbox that does not run: what the store knows
// of it. An error of the store is returned as it is.
func (s *Sandboxes) notRunning(ctx context.Context, id cube.SandboxID) error {
	sandbox, err := s.row(ctx, id)
	if err != nil {
		return err
	}
	return notFound(sandbox)
}

func notFound(sandbox cube.Sandbox) error {
	if sandbox.End == nil {
		return cube.Errorf(cube.NotFound, "Sandbox %s not found: it is %s", sandbox.ID, sandbox.State)
	}
	err := cube.Errorf(cube.NotFound, "Sandbox %s not found: it ended at %s (%s): %s",
		sandbox.ID, sandbox.End.At.Format(time.RFC3339), sandbox.End.Reason, sandbox.End.Detail)
	err.Ended = sandbox.End
	return err
}

// detail says to a user what an end means, if nothing better is known.
func detail(reason cube.EndReason) string {
	switch reason {
	case cube.EndDeadline:
		return "its timeout was over; set a longer one, or extend it in time"
	case cube.EndKilled:
		return "a request killed it"
	case cube.EndOutOfMemory:
		return "it went over its memory limit"
	case cube.EndCrashed:
		return "its kernel or its agent ended unexpectedly"
	case cube.EndLost:
		return "its machine or the server went down"
	case cube.EndFailed:
		return "it could not be started"
	}
	return "it ended"
}

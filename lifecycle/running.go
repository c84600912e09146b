package lifecycle

import (
	"context"
	"net"
	"time"

	"cube"
)

// Get returns a running sandbox. Kind: NotFound, which carries the End of one
// that has ended, for as long as its row is kept.
func (s *Sandboxes) Get(ctx context.Context, id cube.SandboxID) (cube.Sandbox, error) {
	sandbox, err := s.store.Sandbox(ctx, id)
	if err != nil {
		return cube.Sandbox{}, err
	}
	if sandbox.State != cube.Running {
		return cube.Sandbox{}, notFound(sandbox)
	}
	return sandbox, nil
}

// Dial opens a stream to a TCP port of a running sandbox. Kinds: NotFound,
// Unavailable (nothing listens there).
func (s *Sandboxes) Dial(ctx context.Context, id cube.SandboxID, port uint16) (net.Conn, error) {
	if !s.runs(id) {
		return nil, s.notRunning(ctx, id)
	}
	return s.engine.Dial(ctx, id, port)
}

// Stats returns what a running sandbox uses. Kind: NotFound.
func (s *Sandboxes) Stats(ctx context.Context, id cube.SandboxID) (cube.Stats, error) {
	if !s.runs(id) {
		return cube.Stats{}, s.notRunning(ctx, id)
	}
	return s.engine.Stats(ctx, id)
}

// Done returns a channel that is closed when the sandbox stops being Running,
// or is closed already if it does not run.
func (s *Sandboxes) Done(id cube.SandboxID) <-chan struct{} {
	if l := s.find(id); l != nil {
		return l.done
	}
	return closed
}

var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (s *Sandboxes) runs(id cube.SandboxID) bool {
	select {
	case <-s.Done(id):
		return false
	default:
		return true
	}
}

// notRunning is the error for a sandbox that does not run: what the store knows
// of it. An error of the store is returned as it is.
func (s *Sandboxes) notRunning(ctx context.Context, id cube.SandboxID) error {
	sandbox, err := s.store.Sandbox(ctx, id)
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

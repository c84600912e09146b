package lifecycle

import (
	"context"
	"errors"
	"time"

	"cube"
)

// occupy waits until nobody is at work on a sandbox; release lets the next one.
// What its state is is to be looked at afterwards. Kinds: Timeout, Unavailable.
func (s *Sandboxes) occupy(ctx context.Context, l *live) (release func(), err error) {
	release = func() { <-l.occupied }
	select {
	case l.occupied <- struct{}{}: // it is free, even if ctx has ended
		return release, nil
	default:
	}
	select {
	case l.occupied <- struct{}{}:
		return release, nil
	case <-s.ctx.Done():
		return nil, errStopping()
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, cube.Errorf(cube.Timeout, "Sandbox %s is changing its state, and that took too long: try again", l.id)
	}
	return nil, cube.WrapError(cube.Unavailable, ctx.Err(), "The request ended while sandbox %s was changing its state", l.id)
}

// occupyAlive is occupy for those who have nothing to do with a sandbox that is
// being removed, and need not wait for that. Kind: NotFound, besides.
func (s *Sandboxes) occupyAlive(ctx context.Context, l *live) (release func(), err error) {
	l.mu.Lock()
	sandbox := l.sandbox
	l.mu.Unlock()
	if !sandbox.State.CanBecome(cube.Killing) {
		return nil, notFound(sandbox)
	}
	return s.occupy(ctx, l)
}

// work returns a context for what the engine does with a sandbox. It does not
// end with the request, for half a step is worse than one that nobody waits for,
// but after a time, when the server stops, and when the sandbox is killed. done
// is called without l.mu; work itself with it.
func (s *Sandboxes) work(ctx context.Context, l *live, most time.Duration) (_ context.Context, done func()) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
	unhook := context.AfterFunc(s.ctx, cancel)
	l.interrupt = cancel
	return ctx, func() {
		unhook()
		cancel()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.interrupt = nil
	}
}

// snapshot is what a sandbox is kept as; "" while it runs.
func (l *live) snapshot() cube.SnapshotID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sandbox.Snapshot
}

// discard has the engine remove a snapshot until it has done so, or the server
// stops; then the next one's Recover does. "" is none.
func (s *Sandboxes) discard(id cube.SandboxID, snapshot cube.SnapshotID) bool {
	if snapshot == "" {
		return true
	}
	return s.retry(id, "discarding the snapshot "+string(snapshot), func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), stopTimeout)
		defer cancel()
		err := s.engine.Discard(ctx, snapshot)
		if err == nil {
			s.quota.Drop(snapshot)
		}
		return err
	})
}

// settle saves a step of which nobody would ask for a second time, and tells
// whether it did. change makes the next state of the present one, and tells
// whether there is something to do still: a sandbox may have been killed
// meanwhile.
func (s *Sandboxes) settle(l *live, what string, change func(*cube.Sandbox) bool) (settled bool) {
	s.retry(l.id, what, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		next := l.sandbox
		if !change(&next) {
			return nil
		}
		err := s.save(l, next)
		settled = err == nil
		return err
	})
	return settled
}

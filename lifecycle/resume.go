package lifecycle

import (
	"context"
	"time"

	"cube"
)

// Connect gives a running sandbox at least timeout from now, and resumes a paused
// one with that, which it tells. It waits for one that is just being paused or
// resumed. Kinds: NotFound, Invalid (timeout, or one without memory), Exhausted
// (too many sandboxes, or over the account's quota), Timeout, Unavailable,
// Internal; it stays paused then.
func (s *Sandboxes) Connect(ctx context.Context, id cube.SandboxID, timeout time.Duration, memory bool) (_ cube.Sandbox, resumed bool, err error) {
	if err := s.CheckTimeout(timeout); err != nil {
		return cube.Sandbox{}, false, err
	}
	l, err := s.findFor(ctx, id)
	if err != nil {
		return cube.Sandbox{}, false, err
	}
	if l.awake.Load() { // nobody need be waited for
		if sandbox, err := s.Extend(ctx, id, timeout); err == nil || cube.KindOf(err) != cube.NotFound {
			return sandbox, false, err
		}
	}
	release, err := s.occupyAlive(ctx, l)
	if err != nil {
		return cube.Sandbox{}, false, err
	}
	defer release()
	if state := l.state(); state != cube.Paused {
		sandbox, err := s.Extend(ctx, id, timeout)
		return sandbox, false, err
	}
	sandbox, err := s.resume(ctx, l, resuming{timeout: timeout, files: !memory})
	return sandbox, true, err
}

// Resume resumes a paused sandbox. pause says what becomes of it at its next
// deadline; nil leaves it as it was. Whoever asks while it is being resumed gets
// the result of that. Kinds: those of Connect, and Conflict (it ran already).
func (s *Sandboxes) Resume(ctx context.Context, id cube.SandboxID, timeout time.Duration, pause *bool, memory bool) (cube.Sandbox, error) {
	if err := s.CheckTimeout(timeout); err != nil {
		return cube.Sandbox{}, err
	}
	l, err := s.findFor(ctx, id)
	if err != nil {
		return cube.Sandbox{}, err
	}
	was := l.state()
	release, err := s.occupyAlive(ctx, l)
	if err != nil {
		return cube.Sandbox{}, err
	}
	defer release()
	if was != cube.Running && l.state() == cube.Running { // somebody else did, while this one waited
		return s.Extend(ctx, id, timeout)
	}
	return s.resume(ctx, l, resuming{timeout: timeout, pause: pause, files: !memory})
}

// resuming is how a sandbox is resumed.
type resuming struct {
	timeout time.Duration
	pause   *bool // Expiry.Pause from now on, nil for as it was
	files   bool  // from its files alone
}

// resume resumes a paused sandbox that the caller occupies.
func (s *Sandboxes) resume(ctx context.Context, l *live, how resuming) (cube.Sandbox, error) {
	sandbox, err := s.mayResume(l, how)
	if err != nil {
		return cube.Sandbox{}, err
	}
	if err := s.readmit(ctx, l, sandbox); err != nil {
		return cube.Sandbox{}, err
	}
	begun := time.Now()
	if err := s.awaitTurn(ctx, l, sandbox.Account); err != nil {
		s.giveBack(l)
		return cube.Sandbox{}, err
	}
	work, done, err := s.beginResume(ctx, l)
	if err != nil {
		s.starts.Release()
		s.giveBack(l)
		return cube.Sandbox{}, err
	}
	_, err = s.start(work, sandbox, origin{snapshot: sandbox.Snapshot, hostKey: keyOfMemory(sandbox.SnapshotMemory, sandbox.HostKey)})
	if err != nil {
		err = explain(work, s.ctx, err)
	}
	done()
	if err != nil {
		return cube.Sandbox{}, s.resumeFailed(l, sandbox, err)
	}
	resumed := s.settle(l, "noting that the sandbox runs", func(next *cube.Sandbox) bool {
		is := next.State == cube.Resuming
		next.State, next.Snapshot, next.SnapshotMemory = cube.Running, "", false
		next.EndAt = now().Add(how.timeout)
		if how.pause != nil {
			next.Expiry.Pause = *how.pause
		}
		l.begin() // before it is seen as running
		return is
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if !resumed || l.sandbox.State != cube.Running {
		l.halt()
		return cube.Sandbox{}, s.changed(l)
	}
	s.quota.Unkeep(l.id)
	s.quota.Drop(sandbox.Snapshot)
	s.tend(l)
	s.observe(ctx, EventResumed, l.sandbox)
	s.spawn(func() { s.discard(l.id, sandbox.Snapshot) })
	s.log.Info("sandbox resumed", "sandbox", l.id, "memory", sandbox.SnapshotMemory, "took", time.Since(begun))
	return l.sandbox, nil
}

// keyOfMemory is the key that an agent goes by: one that starts anew has none.
func keyOfMemory(memory bool, hostKey string) string {
	if memory {
		return hostKey
	}
	return ""
}

func (l *live) state() cube.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sandbox.State
}

func (s *Sandboxes) mayResume(l *live, how resuming) (cube.Sandbox, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.sandbox.State == cube.Running:
		return cube.Sandbox{}, cube.Errorf(cube.Conflict, "Sandbox %s runs already: connect to it, or set its timeout", l.id)
	case l.sandbox.State != cube.Paused:
		return cube.Sandbox{}, notFound(l.sandbox)
	case how.files && l.sandbox.SnapshotMemory:
		return cube.Sandbox{}, cube.Errorf(cube.Invalid, "Sandbox %s was paused with its memory and can be resumed with it alone: leave memory out, or pause it with memory: false", l.id)
	}
	return l.sandbox, nil
}

// readmit takes the places of a paused sandbox; giveBack gives them back.
func (s *Sandboxes) readmit(ctx context.Context, l *live, sandbox cube.Sandbox) error {
	own := ownLimits(ctx, sandbox.Account)
	return s.admit(l, func() error { return s.quota.Readmit(sandbox.Account, own, l.id, sandbox.Resources) })
}

// ownLimits are the caller's, if the account is its own: those of whoever wakes,
// or pauses, somebody else's are not the owner's.
func ownLimits(ctx context.Context, account string) cube.Limits {
	if caller := cube.IdentityFrom(ctx); caller.Account() == account {
		return caller.Limits
	}
	return cube.Limits{}
}

func (s *Sandboxes) giveBack(l *live) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uncount(l)
}

// awaitTurn waits until a paused sandbox may start, unless it is killed before.
// Without an error a slot of starts is taken.
func (s *Sandboxes) awaitTurn(ctx context.Context, l *live, account string) error {
	turn, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	if err := s.interruptible(l, cancel); err != nil {
		return err
	}
	err := s.starts.Acquire(turn, account)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupt = nil
	switch {
	case err == nil:
		return nil
	case l.sandbox.State != cube.Paused:
		return s.changed(l)
	}
	return explain(turn, s.ctx, err)
}

// interruptible has the end of a paused sandbox call cancel.
func (s *Sandboxes) interruptible(l *live, cancel context.CancelFunc) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sandbox.State != cube.Paused {
		return s.changed(l)
	}
	l.interrupt = cancel
	return nil
}

// beginResume notes that the sandbox is being resumed.
func (s *Sandboxes) beginResume(ctx context.Context, l *live) (work context.Context, done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sandbox.State != cube.Paused { // killed while it waited for its turn
		return nil, nil, s.changed(l)
	}
	next := l.sandbox
	next.State = cube.Resuming
	if err := s.save(l, next); err != nil {
		return nil, nil, err
	}
	work, done = s.work(ctx, l, createTimeout)
	return work, done, nil
}

// resumeFailed makes the sandbox a paused one again, unless it was killed
// meanwhile.
func (s *Sandboxes) resumeFailed(l *live, was cube.Sandbox, why error) error {
	if !s.stop(l.id) {
		return errStopping()
	}
	s.settle(l, "noting that the sandbox is paused still", func(next *cube.Sandbox) bool {
		next.EndAt = was.EndAt
		return s.paused(next)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sandbox.State != cube.Paused {
		return s.changed(l) // whoever removes it gives its places back
	}
	s.setDeadline(l)
	s.giveBack(l)
	return why
}

package lifecycle

import (
	"context"
	"fmt"
	"time"

	"cube"
)

const (
	// clockCheck is how often deadlines are compared with the clock if none is
	// nearer. Timers follow a clock that stands still while the machine sleeps
	// and does not jump when its time is set; deadlines do not.
	clockCheck = 10 * time.Second

	// Rows of sandboxes that have ended are kept for endRetention, the newest
	// maxEnded of them, and looked through every deleteEvery.
	endRetention = 24 * time.Hour
	maxEnded     = 10_000
	deleteEvery  = time.Minute
)

// SetTimeout sets the deadline of a running sandbox to d from now, be it sooner
// or later than before. With 0 or less it has ended when SetTimeout returns, and
// is removed soon after; one that is paused at its deadline is paused then. Kinds: NotFound, Invalid (d is above the maximum).
func (s *Sandboxes) SetTimeout(ctx context.Context, id cube.SandboxID, d time.Duration) error {
	_, err := s.changeDeadline(ctx, id, d, func(time.Time, time.Time) bool { return true })
	return err
}

// Extend sets the deadline to d from now unless it is later already, and returns
// the sandbox. Kinds: NotFound, Invalid (d is above the maximum).
func (s *Sandboxes) Extend(ctx context.Context, id cube.SandboxID, d time.Duration) (cube.Sandbox, error) {
	return s.changeDeadline(ctx, id, d, time.Time.After)
}

// changeDeadline sets the deadline to d from now if the new one is acceptable
// in the place of the old one.
func (s *Sandboxes) changeDeadline(ctx context.Context, id cube.SandboxID, d time.Duration, accept func(changed, old time.Time) bool) (cube.Sandbox, error) {
	if err := s.CheckTimeout(d); err != nil {
		return cube.Sandbox{}, err
	}
	l, err := s.findFor(ctx, id)
	if err != nil {
		return cube.Sandbox{}, err
	}
	sandbox, pause, err := s.changeDeadlineOf(ctx, l, d, accept)
	if err == nil && pause {
		if err = s.pause(ctx, l, pausing{memory: sandbox.Expiry.Memory, due: true}); err != nil {
			s.remind(l) // or it would run for ever
		}
	}
	return sandbox, err
}

// remind has the scheduler act on the deadline of a sandbox that runs.
func (s *Sandboxes) remind(l *live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sandbox.State == cube.Running {
		s.setDeadline(l)
	}
}

// changeDeadlineOf does it, and tells whether the sandbox is to be paused now.
func (s *Sandboxes) changeDeadlineOf(ctx context.Context, l *live, d time.Duration, accept func(changed, old time.Time) bool) (_ cube.Sandbox, pause bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sandbox.State != cube.Running {
		return cube.Sandbox{}, false, notFound(l.sandbox)
	}
	next := l.sandbox
	next.EndAt = now().Add(max(d, 0))
	if !accept(next.EndAt, l.sandbox.EndAt) {
		return l.sandbox, false, nil
	}
	if err := s.save(l, next); err != nil {
		return cube.Sandbox{}, false, err
	}
	s.observe(ctx, EventTimeout, next)
	switch {
	case d > 0:
		s.setDeadline(l)
	case next.Expiry.Pause:
		l.deadline.Store(0)
		return next, true, nil
	default:
		_, err = s.endLocked(ctx, l, deadlineReached())
	}
	return l.sandbox, false, err
}

// CheckTimeout tells whether a sandbox may live that long. Kind: Invalid.
func (s *Sandboxes) CheckTimeout(d time.Duration) error {
	if d > s.maxTimeout {
		return cube.Errorf(cube.Invalid, "Timeout must be at most %d seconds; it can be set again before it is over", int64(s.maxTimeout.Seconds()))
	}
	return nil
}

func deadlineReached() cube.End {
	return cube.End{Reason: cube.EndDeadline, At: now()}
}

// due is when the time of a running or a paused sandbox is over; the zero time
// if it never is.
func (s *Sandboxes) due(sandbox cube.Sandbox) time.Time {
	switch {
	case sandbox.State != cube.Paused:
		return sandbox.EndAt
	case s.retention > 0:
		return sandbox.EndAt.Add(s.retention)
	}
	return time.Time{}
}

// setDeadline makes the scheduler act on a deadline that was saved; l.mu is held.
func (s *Sandboxes) setDeadline(l *live) {
	due := s.due(l.sandbox)
	if due.IsZero() {
		l.deadline.Store(0)
		return
	}
	l.deadline.Store(due.UnixMilli())
	select {
	case s.sooner <- struct{}{}:
	default: // it is about to look anyway
	}
}

// watchDeadlines is the scheduler. It looks at all deadlines when the nearest is
// there, when one was set, and now and then.
func (s *Sandboxes) watchDeadlines() {
	for {
		timer := time.NewTimer(s.endExpired())
		select {
		case <-timer.C:
		case <-s.sooner:
			timer.Stop()
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// endExpired ends the sandboxes whose deadline has passed and returns when to
// look again.
func (s *Sandboxes) endExpired() time.Duration {
	now := time.Now().UnixMilli() // the wall clock, as in the rows
	next := now + clockCheck.Milliseconds()
	var expired []*live
	s.mu.Lock()
	for _, l := range s.live {
		switch at := l.deadline.Load(); {
		case at == 0:
		case at > now:
			next = min(next, at)
		case l.deadline.CompareAndSwap(at, 0):
			expired = append(expired, l)
		default: // it was changed this very moment, which wakes us again
		}
	}
	s.mu.Unlock()
	for _, l := range expired {
		s.spawn(func() { s.expire(l) })
	}
	return time.Duration(next-now) * time.Millisecond
}

// expire ends or pauses a sandbox unless its deadline, or the clock, was moved
// meanwhile. One that cannot be paused runs on, and that is tried again: what is
// in it would be lost.
func (s *Sandboxes) expire(l *live) {
	s.retry(l.id, "ending or pausing the sandbox at its deadline", func() error {
		pause, err := s.endOrPause(l)
		if err != nil || !pause.due {
			return err
		}
		err = s.pause(context.Background(), l, pause)
		switch {
		case err == nil:
		case cube.KindOf(err) == cube.NotFound, cube.KindOf(err) == cube.Conflict: // somebody else was first
			return nil
		case cube.KindOf(err) == cube.Unsupported: // it never will be
			_, err = s.end(context.Background(), l, deadlineReached())
		}
		return err
	})
}

// endOrPause ends a sandbox whose deadline has passed, a paused one whose
// retention has, or returns how it is to be paused.
func (s *Sandboxes) endOrPause(l *live) (pausing, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state, end := l.sandbox.State, deadlineReached()
	switch {
	case state != cube.Running && state != cube.Paused: // whoever is at work on it sets the next one
		return pausing{}, nil
	case s.due(l.sandbox).After(time.Now()):
		s.setDeadline(l)
		return pausing{}, nil
	case state == cube.Paused && s.retention == 0:
		return pausing{}, nil
	case state == cube.Paused:
		end.Detail = fmt.Sprintf("it was paused for longer than this server keeps paused sandboxes, which is %s; connect to one before that is over", s.retention)
	case l.sandbox.Expiry.Pause:
		return pausing{memory: l.sandbox.Expiry.Memory, due: true}, nil
	}
	_, err := s.endLocked(context.Background(), l, end)
	return pausing{}, err
}

// deleteOld deletes rows of sandboxes that ended long ago.
func (s *Sandboxes) deleteOld() {
	ticker := time.NewTicker(deleteEvery)
	defer ticker.Stop()
	for {
		ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
		if _, err := s.store.DeleteGone(ctx, now().Add(-endRetention), maxEnded); err != nil && s.ctx.Err() == nil {
			s.log.Warn("deleting rows of ended sandboxes failed and is tried again", "after", deleteEvery, "error", err)
		}
		cancel()
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
	}
}

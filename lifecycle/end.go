package lifecycle

import (
	"cmp"
	"context"
	"time"

	"cube"
)

const (
	// stopTimeout bounds one attempt to remove a sandbox, and stopSlots how many
	// are at work at once: enough that some that hang do not keep others waiting.
	stopTimeout = 30 * time.Second
	stopSlots   = 32
	// killPatience is how long Kill waits for a sandbox that resists; it takes
	// some ten milliseconds otherwise.
	killPatience = 30 * time.Second

	// What fails is tried again after firstRetry, then after twice as long each
	// time, up to lastRetry.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Kill ends a sandbox, a paused one too, and returns when nothing of it is left. by says
// who asked and is kept with the end. For a sandbox that is not there it is
// NotFound; for one that ends already, also by another Kill, it is so once
// nothing is left. So of any number of kills one returns nil, as E2B's SDKs
// expect: kill() is true for the first alone.
func (s *Sandboxes) Kill(ctx context.Context, id cube.SandboxID, by string) error {
	l, err := s.findFor(ctx, id)
	if err != nil {
		return err
	}
	won, err := s.end(ctx, l, cube.End{Reason: cube.EndKilled, At: now(), By: by})
	if err != nil {
		return err
	}
	if err := s.awaitGone(ctx, l); err != nil {
		return err
	}
	if !won {
		return s.notRunning(ctx, id)
	}
	return nil
}

func (s *Sandboxes) awaitGone(ctx context.Context, l *live) error {
	ctx, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	select {
	case <-l.gone:
		return nil
	case <-ctx.Done():
		return cube.WrapError(cube.Unavailable, ctx.Err(), "Sandbox %s is ending, but not all of it could be removed yet; the server keeps trying", l.id)
	case <-s.ctx.Done():
		return errStopping()
	}
}

// end decides that a sandbox ends and why, and has it removed. It tells whether
// it was this call that decided; false means that another has. On an error
// nothing was decided. ctx says who ends it, if anybody; its own end is none.
func (s *Sandboxes) end(ctx context.Context, l *live, end cube.End) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.endLocked(ctx, l, end)
}

// endLocked is end for callers that hold l.mu.
func (s *Sandboxes) endLocked(ctx context.Context, l *live, end cube.End) (bool, error) {
	if !l.sandbox.State.CanBecome(cube.Killing) {
		return false, nil
	}
	if s.ctx.Err() != nil {
		return false, errStopping() // nobody would remove it
	}
	next := l.sandbox
	next.State = cube.Killing
	end.Detail = cmp.Or(end.Detail, detail(end.Reason))
	next.End = &end
	if err := s.save(l, next); err != nil {
		return false, err
	}
	s.log.Info("sandbox ends", "sandbox", l.id, "reason", end.Reason, "by", end.By, "detail", end.Detail)
	s.endBegun(l)
	s.observe(ctx, EventEnded, next)
	return true, nil
}

// endBegun does what follows once the row says Killing.
func (s *Sandboxes) endBegun(l *live) {
	l.halt()
	if l.interrupt != nil {
		l.interrupt()
	}
	s.spawn(func() { s.remove(l) })
}

// endSurely is end for ends that nobody would ask for a second time.
func (s *Sandboxes) endSurely(ctx context.Context, l *live, end cube.End) {
	s.retry(l.id, "noting the sandbox's end", func() error {
		_, err := s.end(ctx, l, end)
		return err
	})
}

// remove takes a sandbox from Killing to Gone, once whoever is at work on it has
// let go of it.
func (s *Sandboxes) remove(l *live) {
	release, err := s.occupy(s.ctx, l)
	if err != nil {
		return
	}
	defer release()
	if !s.stop(l.id) || !s.discard(l.id, l.snapshot()) {
		return
	}
	noted := s.retry(l.id, "noting that the sandbox is gone", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		next := l.sandbox
		next.State = cube.Gone
		return s.save(l, next)
	})
	if noted {
		s.forget(l)
		close(l.gone)
	}
}

// stop has the engine remove a sandbox until it has done so, or the server
// stops. A removal that is at work then is finished all the same: an operator
// who stops the server after the last sandbox has ended finds nothing left.
func (s *Sandboxes) stop(id cube.SandboxID) bool {
	return s.retry(id, "removing the sandbox", func() error {
		select {
		case s.stops <- struct{}{}: // there is a free one
		default:
			select {
			case s.stops <- struct{}{}:
			case <-s.ctx.Done():
				return s.ctx.Err()
			}
		}
		defer func() { <-s.stops }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), stopTimeout)
		defer cancel()
		return s.engine.Stop(ctx, id)
	})
}

// watch waits until the sandbox runs no more. Unless that was decided here, it
// has ended by itself. run is the run that it watches.
func (s *Sandboxes) watch(l *live, run <-chan struct{}) {
	var exit cube.Exit
	exited := s.retry(l.id, "watching the sandbox", func() (err error) {
		exit, err = s.engine.Wait(s.ctx, l.id)
		return err
	})
	if !exited {
		return
	}
	// Whoever is at work on it may be the one who stopped it.
	release, err := s.occupy(s.ctx, l)
	if err != nil {
		return
	}
	defer release()
	if isClosed(run) {
		return
	}
	end := cube.End{Reason: cube.EndCrashed, At: now(), Detail: exit.Detail}
	if exit.OutOfMemory {
		end.Reason = cube.EndOutOfMemory
	}
	s.endSurely(context.Background(), l, end)
}

// retry calls f until it succeeds, which it tells, or until the server stops.
func (s *Sandboxes) retry(id cube.SandboxID, what string, f func() error) bool {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := f()
		if err == nil {
			return true
		}
		if s.ctx.Err() != nil {
			return false
		}
		s.log.Warn(what+" failed and is tried again", "sandbox", id, "after", wait, "error", err)
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return false
		}
	}
}

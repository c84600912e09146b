package lifecycle

import (
	"context"
	"time"

	"cube"
)

// keepTimeout bounds the engine's keeping of a sandbox: all of its memory is
// written to a disk.
const keepTimeout = 5 * time.Minute

// Pause keeps a running sandbox on the disk and stops it: with its memory, so
// that its processes go on where they were, or with its files alone. It does not
// end with ctx. When it returns nil nothing of it runs any more; on an error it
// runs on as before, and so do its streams.
//
// Whoever asks while it is being paused gets the result of that.
//
// Kinds: NotFound, Conflict (it was paused already), Exhausted (no room on the
// disk, or over the account's quota), Unsupported (by the engine), Unavailable, Internal.
func (s *Sandboxes) Pause(ctx context.Context, id cube.SandboxID, memory bool) error {
	l, err := s.findFor(ctx, id)
	if err != nil {
		return err
	}
	return s.pause(ctx, l, pausing{memory: memory})
}

// pausing is how a sandbox is paused.
type pausing struct {
	memory bool
	due    bool // only if its deadline has passed
}

func (s *Sandboxes) pause(ctx context.Context, l *live, how pausing) error {
	was := l.state()
	release, err := s.occupyAlive(ctx, l)
	if err != nil {
		return err
	}
	defer release()
	if was != cube.Paused && l.state() == cube.Paused {
		return nil // somebody else did, while this one waited
	}
	work, done, err := s.beginPause(ctx, l, how)
	if err != nil || work == nil {
		return err
	}
	begun := time.Now()
	info, err := s.engine.Checkpoint(work, cube.CheckpointRequest{Sandbox: l.id, Snapshot: l.snapshot(), Memory: how.memory})
	done()
	if err != nil {
		return s.pauseFailed(l, how, err)
	}
	if err := s.holdPaused(ctx, l, info); err != nil {
		err = s.pauseFailed(l, how, err)
		s.thaw(l)
		s.spawn(func() { s.discard(l.id, info.ID) })
		return err
	}
	if !s.settle(l, "noting that the sandbox is paused", func(next *cube.Sandbox) bool {
		next.EndAt = now()
		return s.paused(next)
	}) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return s.changed(l)
	}
	kept := time.Since(begun)
	l.mu.Lock()
	l.halt()
	if l.sandbox.State == cube.Paused { // else it was killed meanwhile
		s.setDeadline(l)
	}
	s.observe(ctx, EventPaused, l.sandbox)
	l.mu.Unlock()
	if !s.stop(l.id) {
		return errStopping() // it is paused: the next server removes what is left
	}
	s.mu.Lock()
	s.uncount(l)
	s.mu.Unlock()
	s.log.Info("sandbox paused", "sandbox", l.id, "memory", how.memory, "bytes", info.Bytes, "kept", kept, "took", time.Since(begun))
	return nil
}

// holdPaused counts what a sandbox is kept as for its account.
func (s *Sandboxes) holdPaused(ctx context.Context, l *live, info cube.SnapshotInfo) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = 0
	err := s.quota.Hold(l.sandbox.Account, ownLimits(ctx, l.sandbox.Account), info.ID, info.Bytes)
	if err != nil {
		l.refused = info.Bytes
	}
	return err
}

// paused makes a sandbox that is being paused, or resumed, a paused one.
func (s *Sandboxes) paused(next *cube.Sandbox) bool {
	is := next.State == cube.Pausing || next.State == cube.Resuming
	next.State = cube.Paused
	return is
}

// beginPause notes that the sandbox is being kept, and as what. No context and no
// error mean that there is nothing to do.
func (s *Sandboxes) beginPause(ctx context.Context, l *live, how pausing) (work context.Context, done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.sandbox.State == cube.Paused:
		return nil, nil, cube.Errorf(cube.Conflict, "Sandbox %s is paused already", l.id)
	case l.sandbox.State != cube.Running:
		return nil, nil, notFound(l.sandbox)
	case how.due && l.sandbox.EndAt.After(time.Now()):
		s.setDeadline(l)
		return nil, nil, nil
	}
	own, least := ownLimits(ctx, l.sandbox.Account), int64(0)
	if how.due { // which is tried again and again: not with all of its memory written each time
		least = l.refused
	}
	if err := s.quota.MayHold(l.sandbox.Account, own, least); err != nil {
		return nil, nil, err
	}
	if err := s.quota.Keep(l.sandbox.Account, own, l.id); err != nil {
		return nil, nil, err
	}
	next := l.sandbox
	next.State, next.Snapshot, next.SnapshotMemory = cube.Pausing, cube.NewSnapshotID(), how.memory
	if err := s.save(l, next); err != nil {
		s.quota.Unkeep(l.id)
		return nil, nil, err
	}
	l.deadline.Store(0)
	work, done = s.work(ctx, l, keepTimeout)
	return work, done, nil
}

// pauseFailed lets the sandbox run on, unless it was killed meanwhile.
func (s *Sandboxes) pauseFailed(l *live, how pausing, why error) error {
	s.settle(l, "noting that the sandbox runs on", func(next *cube.Sandbox) bool {
		is := next.State == cube.Pausing
		next.State, next.Snapshot, next.SnapshotMemory = cube.Running, "", false
		return is
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sandbox.State != cube.Running {
		return s.changed(l) // whoever removes it counts it no more
	}
	s.quota.Unkeep(l.id)
	if !how.due { // else whoever acts on the deadline tries again
		s.setDeadline(l)
	}
	return explainKeep(s.ctx, why)
}

// changed is the error of what was not done because the sandbox has a state that
// it had not before; l.mu is held.
func (s *Sandboxes) changed(l *live) error {
	if s.ctx.Err() != nil {
		return errStopping()
	}
	return notFound(l.sandbox)
}

// explainKeep turns the failure of a checkpoint into an error that helps who
// asked.
func explainKeep(server context.Context, err error) error {
	if server.Err() != nil {
		return errStopping()
	}
	switch cube.KindOf(err) {
	case cube.NotFound, cube.Exhausted, cube.Unsupported, cube.Unavailable, cube.Timeout:
		return err
	}
	return cube.WrapError(cube.Internal, err, "The sandbox could not be kept and runs on: try again; if it stays so, the operator finds the cause in the server's log")
}

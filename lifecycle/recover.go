package lifecycle

import (
	"context"
	"fmt"
	"maps"

	"cube"
)

// Recover brings together what the store says and what the engine has, after
// whatever ended the server before. It is called once, before anything is
// served. When it returns nil every sandbox is either running and watched, or
// paused, or decided to end; removing those goes on behind, and is tried until it
// is done.
//
//	row       engine   snapshot   what becomes of it
//	Running   runs     any        adopted: let run on, watched again, with its deadline
//	Running   not      any        ended as lost
//	Starting  any      any        ended as lost: nobody was told of it
//	Pausing   runs     any        adopted, as it was before; the snapshot goes
//	Pausing   not      whole      paused
//	Pausing   not      not        ended as lost
//	Paused    any      any        paused; what is left of its run is removed
//	Resuming  any      any        paused; what there is of its run is removed
//	Killing   any      any        removed; its end is the one that was decided
//	none      any      any        removed
//
// A sandbox that is being paused is stopped once its row says Paused, and not
// before: one that still runs has lost nothing by running on. Snapshots that
// belong to no row and no template are discarded.
func (s *Sandboxes) Recover(ctx context.Context) error {
	found, err := s.findAll(ctx)
	if err != nil {
		return err
	}
	for _, row := range found.rows {
		if err := s.recoverOne(ctx, row, found.runs[row.ID], found.whole[row.Snapshot]); err != nil {
			return fmt.Errorf("recovering sandbox %s: %w", row.ID, err)
		}
		delete(found.runs, row.ID)
		if l := s.find(row.ID); l != nil && l.state() == cube.Paused {
			found.kept[row.Snapshot] = true
			s.quota.AdoptHeld(row.Account, row.Snapshot, found.bytes[row.Snapshot])
		}
	}
	for id := range found.runs {
		s.log.Warn("the engine has a sandbox that the store does not know; it is removed", "sandbox", id)
		s.spawn(func() { s.stop(id) })
	}
	swept := s.sweep(found)
	s.log.Info("sandboxes recovered", "rows", len(found.rows), "unknown", len(found.runs), "snapshots swept", swept)
	return nil
}

// found is what there was when the server started.
type found struct {
	runs  map[cube.SandboxID]bool   // what the engine has, and whether it runs
	whole map[cube.SnapshotID]bool  // the engine's snapshots
	bytes map[cube.SnapshotID]int64 // what they take on the disk
	rows  []cube.Sandbox            // that are not Gone
	kept  map[cube.SnapshotID]bool  // the snapshots that have rows of their own, or templates
}

func (s *Sandboxes) findAll(ctx context.Context) (found, error) {
	f := found{runs: map[cube.SandboxID]bool{}, whole: map[cube.SnapshotID]bool{}, bytes: map[cube.SnapshotID]int64{}, kept: map[cube.SnapshotID]bool{}}
	existing, err := s.engine.List(ctx)
	if err != nil {
		return f, fmt.Errorf("listing what the engine has: %w", err)
	}
	for _, e := range existing {
		f.runs[e.ID] = e.Running
	}
	snapshots, err := s.engine.Snapshots(ctx)
	if err != nil {
		return f, fmt.Errorf("listing the engine's snapshots: %w", err)
	}
	for _, snapshot := range snapshots {
		f.whole[snapshot.ID], f.bytes[snapshot.ID] = true, snapshot.Bytes
	}
	f.rows, _, err = s.store.ListSandboxes(ctx, cube.SandboxQuery{
		States: []cube.State{cube.Starting, cube.Running, cube.Pausing, cube.Paused, cube.Resuming, cube.Killing},
	})
	if err != nil {
		return f, err
	}
	rows, err := s.store.ListSnapshots(ctx, cube.SnapshotQuery{})
	for _, row := range rows {
		f.kept[row.ID] = true
		s.quota.AdoptHeld(row.Account, row.ID, f.bytes[row.ID])
		if !f.whole[row.ID] {
			s.log.Error("a snapshot is not there any more: sandboxes cannot be started from it", "snapshot", row.ID)
		}
	}
	if err == nil && s.catalog != nil {
		var named map[cube.SnapshotID]bool
		named, err = s.catalog.Snapshots(ctx)
		maps.Copy(f.kept, named)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, template := range s.templates {
		f.kept[template.Snapshot] = true
	}
	return f, err
}

// sweep discards the snapshots that nobody needs, and tells how many.
func (s *Sandboxes) sweep(f found) int {
	swept := 0
	for id := range f.whole {
		if f.kept[id] {
			continue
		}
		swept++
		s.spawn(func() { s.discard("", id) })
	}
	return swept
}

func (s *Sandboxes) recoverOne(ctx context.Context, row cube.Sandbox, runs, whole bool) error {
	l := newLive(row)
	counts := row.State != cube.Paused && row.State != cube.Resuming
	s.mu.Lock()
	s.live[l.id] = l
	if counts {
		l.counted = true
		s.count++
		s.quota.Adopt(row.Account, row.ID, row.Resources)
	}
	s.mu.Unlock()

	l.mu.Lock()
	defer l.mu.Unlock()
	lost := cube.End{Reason: cube.EndLost, At: now()}
	switch {
	case row.State == cube.Killing:
		s.endBegun(l)
		return nil
	case row.State == cube.Starting:
		lost.Detail = "the server stopped while it was starting the sandbox"
	case row.State == cube.Paused, row.State == cube.Resuming, row.State == cube.Pausing && !runs && whole:
		return s.recoverPaused(l, whole)
	case runs:
		return s.adopt(l)
	default:
		lost.Detail = "it did not run any more when the server started again"
	}
	_, err := s.endLocked(ctx, l, lost)
	return err
}

// adopt takes over a sandbox that runs, or was being kept; l.mu is held. One that
// was being kept may have a helper at work still, and one may resist: that must not
// keep the others waiting for their server. Each is thawed behind, before anything
// else is done with it.
func (s *Sandboxes) adopt(l *live) error {
	l.occupied <- struct{}{} // nobody else knows it yet
	s.spawn(func() {
		s.thaw(l)
		<-l.occupied
	})
	if l.sandbox.State == cube.Pausing {
		next := l.sandbox
		next.State, next.Snapshot, next.SnapshotMemory = cube.Running, "", false
		if err := s.save(l, next); err != nil {
			return err
		}
	}
	s.tend(l)
	s.spawn(func() { s.repeatNetwork(l) })
	return nil
}

// recoverPaused makes a sandbox a paused one and removes what there is of its
// run, behind, before anybody resumes it; l.mu is held.
func (s *Sandboxes) recoverPaused(l *live, whole bool) error {
	if l.sandbox.State != cube.Paused {
		next := l.sandbox
		next.State = cube.Paused
		next.EndAt = now()
		if err := s.save(l, next); err != nil {
			return err
		}
	}
	s.quota.AdoptKept(l.sandbox.Account, l.id)
	l.halt()
	s.setDeadline(l)
	if !whole {
		s.log.Error("the snapshot of a paused sandbox is not there: it cannot be resumed", "sandbox", l.id, "snapshot", l.sandbox.Snapshot)
	}
	l.occupied <- struct{}{} // nobody else knows it yet
	s.spawn(func() {
		if s.stop(l.id) {
			s.mu.Lock()
			s.uncount(l)
			s.mu.Unlock()
		}
		<-l.occupied
	})
	return nil
}

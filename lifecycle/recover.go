package lifecycle

import (
	"context"
	"fmt"

	"cube"
)

// Recover brings together what the store says and what the engine has, after
// whatever ended the server before. It is called once, before anything is
// served. When it returns nil every sandbox is either running and watched, or
// decided to end; removing those goes on behind, and is tried until it is done.
//
//	row       engine   what becomes of it
//	Running   runs     adopted: watched again, with its deadline
//	Running   not      ended as lost
//	Starting  any      ended as lost: nobody was told of it
//	Killing   any      removed; its end is the one that was decided
//	none      any      removed
func (s *Sandboxes) Recover(ctx context.Context) error {
	existing, err := s.engine.List(ctx)
	if err != nil {
		return fmt.Errorf("listing what the engine has: %w", err)
	}
	rows, _, err := s.store.ListSandboxes(ctx, cube.SandboxQuery{
		States: []cube.State{cube.Starting, cube.Running, cube.Killing},
	})
	if err != nil {
		return err
	}
	runs := make(map[cube.SandboxID]bool, len(existing))
	for _, e := range existing {
		runs[e.ID] = e.Running
	}
	for _, row := range rows {
		if err := s.recoverOne(row, runs[row.ID]); err != nil {
			return fmt.Errorf("recovering sandbox %s: %w", row.ID, err)
		}
		delete(runs, row.ID)
	}
	for id := range runs {
		s.log.Warn("the engine has a sandbox that the store does not know; it is removed", "sandbox", id)
		s.spawn(func() { s.stop(id) })
	}
	s.log.Info("sandboxes recovered", "rows", len(rows), "unknown", len(runs))
	return nil
}

func (s *Sandboxes) recoverOne(row cube.Sandbox, runs bool) error {
	l := newLive(row)
	s.mu.Lock()
	s.live[l.id] = l
	s.count++
	s.quota.Adopt(row.Account, row.ID, row.Resources)
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
	case runs:
		s.tend(l)
		return nil
	default:
		lost.Detail = "it did not run any more when the server started again"
	}
	_, err := s.endLocked(context.Background(), l, lost)
	return err
}

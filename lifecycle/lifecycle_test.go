package lifecycle

import (
	"testing"

	"cube"
)

// The vocabulary has the table of transitions; no other step reaches the store.
func TestStepsThatTheTableDoesNotHaveAreRefused(t *testing.T) {
	states := []cube.State{cube.Starting, cube.Running, cube.Pausing, cube.Paused, cube.Resuming, cube.Killing, cube.Gone}
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		for _, from := range states {
			for _, to := range states {
				sandbox := cube.Sandbox{ID: cube.NewSandboxID(), State: from, StartedAt: now(), EndAt: now()}
				if err := w.store.CreateSandbox(t.Context(), sandbox, nil); err != nil {
					t.Fatal(err)
				}
				next := sandbox
				next.State = to
				err := s.save(newLive(sandbox), next)
				row, readErr := w.store.Sandbox(t.Context(), sandbox.ID)
				if readErr != nil {
					t.Fatal(readErr)
				}
				switch allowed := from == to || from.CanBecome(to); {
				case allowed && (err != nil || row.State != to):
					t.Errorf("%s to %s: %v, the row is %s", from, to, err, row.State)
				case !allowed && (cube.KindOf(err) != cube.Conflict || row.State != from):
					t.Errorf("%s to %s: %v, the row is %s; want a conflict and no change", from, to, err, row.State)
				}
			}
		}
	})
}

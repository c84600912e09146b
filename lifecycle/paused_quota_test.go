package lifecycle

import (
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

func TestWhoHasTooManyPausedSandboxesPausesNoMore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.quotaOf(cube.Limits{Paused: 1})
		s := w.server()
		first, second := createAs(t, s, ada), createAs(t, s, ada)
		if err := s.Pause(as(t, ada), first.ID, true); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.Pause(as(t, ada), second.ID, true), cube.Exhausted)
		if running := w.rows(cube.Running); len(running) != 1 || running[0].ID != second.ID || running[0].Snapshot != "" {
			t.Errorf("those that run are %+v, want the one that was refused", running)
		}
		s.Close()

		// The next server counts what is there.
		w.quotaOf(cube.Limits{Paused: 1})
		s = w.server()
		synctest.Wait()
		wantKind(t, s.Pause(as(t, ada), second.ID, true), cube.Exhausted)
		if _, err := s.Resume(as(t, ada), first.ID, time.Minute, nil, true); err != nil {
			t.Fatal(err)
		}
		if err := s.Pause(as(t, ada), second.ID, true); err != nil {
			t.Errorf("after the first was resumed: %v", err)
		}
		wantKind(t, s.Pause(as(t, ada), first.ID, true), cube.Exhausted)
		if err := s.Kill(as(t, ada), second.ID, "x"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := s.Pause(as(t, ada), first.ID, true); err != nil {
			t.Errorf("after the second was killed: %v", err)
		}
	})
}

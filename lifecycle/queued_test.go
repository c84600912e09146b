package lifecycle

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

func TestAKillDoesNotWaitForAResumeThatWaitsForItsTurn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.StartSlots = 1
		s := w.server()
		id := mustCreate(t, s).ID
		mustPause(t, s, id, true)
		goOn := make(chan struct{})
		w.engine.OnStart = func(context.Context, cube.StartRequest) error {
			<-goOn
			return nil
		}
		created := make(chan error, 1)
		go func() {
			_, err := s.Create(context.Background(), simple())
			created <- err
		}()
		synctest.Wait() // it has the only slot
		failed := make(chan error, 1)
		go func() {
			_, _, err := s.Connect(context.Background(), id, time.Minute, true)
			failed <- err
		}()
		synctest.Wait() // it waits for one
		begun := time.Now()
		if err := s.Kill(t.Context(), id, "x"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("the kill waited for %s", took)
		}
		wantEnded(t, <-failed, cube.EndKilled)
		w.wantEnd(id, cube.EndKilled)
		w.wantSnapshots(0)
		close(goOn)
		if err := <-created; err != nil {
			t.Errorf("the other one: %v", err)
		}
		if n := s.Gauges().Running; n != 1 {
			t.Errorf("%d sandboxes are counted, want the other one", n)
		}
	})
}

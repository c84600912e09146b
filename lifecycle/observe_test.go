package lifecycle

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

func TestWhatIsDoneToASandboxIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		told := map[cube.SandboxID][]string{}
		w.config.Observe = func(ctx context.Context, e Event) {
			mu.Lock()
			defer mu.Unlock()
			told[e.Sandbox] = append(told[e.Sandbox], string(e.Kind)+" "+string(e.Reason)+" "+cube.IdentityFrom(ctx).Subject+" "+e.Owner.Subject)
		}
		s := w.server()
		as := func(who string) context.Context {
			return cube.WithIdentity(t.Context(), cube.Identity{Subject: who})
		}
		create := func() cube.SandboxID {
			created, err := s.Create(as("ann"), simple())
			if err != nil {
				t.Fatal(err)
			}
			return created.Sandbox.ID
		}
		killed, late, crashed, kept := create(), create(), create(), create()
		if err := s.SetTimeout(as("bob"), kept, time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := s.Kill(as("bob"), killed, "request"); err != nil {
			t.Fatal(err)
		}
		if err := s.Kill(as("bob"), killed, "request"); err == nil {
			t.Fatal("killed twice")
		}
		if err := s.SetTimeout(as("bob"), late, 0); err != nil {
			t.Fatal(err)
		}
		w.engine.Die(crashed, cube.Exit{OutOfMemory: true})
		synctest.Wait()
		if s.Owner(kept).Subject != "ann" || s.Gauges().Running != 1 {
			t.Errorf("owner %+v of %d sandboxes, want ann of 1", s.Owner(kept), s.Gauges().Running)
		}
		time.Sleep(2 * time.Hour) // of the bubble's clock
		synctest.Wait()

		mu.Lock()
		defer mu.Unlock()
		created := "created  ann ann"
		wantEqual(t, "what was told", told, map[cube.SandboxID][]string{
			killed:  {created, "ended killed bob ann"},
			late:    {created, "timeout  bob ann", "ended deadline bob ann"},
			crashed: {created, "ended out_of_memory  ann"},
			kept:    {created, "timeout  bob ann", "ended deadline  ann"},
		})
	})
}

func TestAStartThatFailsIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var told []Event
		w.config.Observe = func(_ context.Context, e Event) { told = append(told, e) }
		s := w.server()
		req := simple()
		req.Template = "broken"
		if _, err := s.Create(t.Context(), req); err == nil {
			t.Fatal("it started")
		}
		if len(told) != 1 || told[0].Kind != EventEnded || told[0].Reason != cube.EndFailed {
			t.Errorf("told of %+v, want one failed start", told)
		}
	})
}

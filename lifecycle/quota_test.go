package lifecycle

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cube"
	"cube/quota"
)

// quotaOf has the next servers of the world hold everybody to limits.
func (w *world) quotaOf(limits cube.Limits) { w.config.Quota = quota.NewLedger(limits) }

func createAs(t *testing.T, s *Sandboxes, id cube.Identity) cube.Sandbox {
	t.Helper()
	created, err := s.Create(as(t, id), simple())
	if err != nil {
		t.Fatalf("%s: %v", id.Account(), err)
	}
	return created.Sandbox
}

// wantOverQuota checks that an identity gets no sandbox, and nothing is written.
func (w *world) wantOverQuota(s *Sandboxes, id cube.Identity) {
	w.t.Helper()
	before := len(w.rows())
	_, err := s.Create(as(w.t, id), simple())
	wantKind(w.t, err, cube.Exhausted)
	if after := len(w.rows()); after != before {
		w.t.Errorf("%d rows were written", after-before)
	}
}

func TestEachAccountHasItsQuota(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.quotaOf(cube.Limits{CPUs: 4}) // two of simple's
		s := w.server()
		first := createAs(t, s, ada)
		if first.Account != "team:red" {
			t.Errorf("its account is %q", first.Account)
		}
		createAs(t, s, alan)
		w.wantOverQuota(s, ada)
		createAs(t, s, bob)
		own := alan
		own.Limits = cube.Limits{CPUs: 6}
		createAs(t, s, own)
		createAs(t, s, stranger)
		createAs(t, s, stranger)
		w.wantOverQuota(s, stranger)
	})
}

func TestLimitsOfAnIdentityNeedNoSettings(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		own := ada
		own.Limits = cube.Limits{Sandboxes: 1}
		createAs(t, s, own)
		w.wantOverQuota(s, own)
		createAs(t, s, ada)
	})
}

// However a sandbox ends, its place is free when nothing of it is left, and not
// before.
func TestEachEndGivesThePlaceBack(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(w *world, s *Sandboxes, id cube.SandboxID)
	}{
		{"a kill", func(w *world, s *Sandboxes, id cube.SandboxID) {
			if err := s.Kill(w.t.Context(), id, "x"); err != nil {
				w.t.Error(err)
			}
		}},
		{"the deadline", func(*world, *Sandboxes, cube.SandboxID) { after(simple().Timeout) }},
		{"a crash", func(w *world, _ *Sandboxes, id cube.SandboxID) { w.engine.Die(id, cube.Exit{}) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.quotaOf(cube.Limits{Sandboxes: 1})
				removing := make(chan struct{})
				w.engine.OnStop = func(context.Context, cube.SandboxID) error { <-removing; return nil }
				s := w.server()
				id := createAs(t, s, ada).ID
				var ended sync.WaitGroup
				ended.Go(func() { test.end(w, s, id) })
				<-s.Done(id)
				w.wantOverQuota(s, ada)
				close(removing)
				ended.Wait()
				synctest.Wait()
				w.wantNothingLeft()
				createAs(t, s, ada)
				w.wantOverQuota(s, ada)
			})
		})
	}
}

func TestACreateThatFailsGivesItsPlacesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.quotaOf(cube.Limits{Sandboxes: 1})
		w.config.StartSlots = 1
		store := &failingStore{Store: w.store}
		w.config.Store, w.config.Engine = store, w.engine
		s := w.server()
		for range 3 {
			_, err := s.Create(as(t, ada), CreateRequest{Template: "broken", Timeout: time.Minute})
			wantKind(t, err, cube.NotFound)
			synctest.Wait()
			store.fail(errors.New("disk full"))
			_, err = s.Create(as(t, ada), simple())
			wantKind(t, err, cube.Internal)
			store.fail(nil)
		}
		createAs(t, s, ada)
	})
}

func TestQuotasOutliveTheServer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		limits := cube.Limits{Sandboxes: 2}
		w.quotaOf(limits)
		s := w.server()
		kept, lost := createAs(t, s, ada), createAs(t, s, ada)
		s.Close()
		w.engine.Die(lost.ID, cube.Exit{})

		removing := make(chan struct{})
		w.engine.OnStop = func(context.Context, cube.SandboxID) error { <-removing; return nil }
		w.quotaOf(limits)
		s = w.server()
		w.wantOverQuota(s, alan)
		createAs(t, s, bob)
		close(removing)
		synctest.Wait()
		createAs(t, s, alan)
		w.wantOverQuota(s, alan)
		if err := s.Kill(t.Context(), kept.ID, "x"); err != nil {
			t.Fatal(err)
		}
		createAs(t, s, alan)
	})
}

func TestARepeatedCreateCountsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.quotaOf(cube.Limits{Sandboxes: 1, CreatesPerMinute: 1})
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { time.Sleep(time.Second); return nil }
		s := w.server()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := s.Create(as(t, ada), keyed("k", "a")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.wantOverQuota(s, ada)
	})
}

func TestManyAtOnceDoNotGetMoreThanTheirQuota(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.quotaOf(cube.Limits{Sandboxes: 5})
		s := w.server()
		var made atomic.Int32
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				switch _, err := s.Create(as(t, ada), simple()); {
				case err == nil:
					made.Add(1)
				case cube.KindOf(err) != cube.Exhausted:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := made.Load(); n != 5 || len(w.machine()) != 5 || len(w.rows()) != 5 {
			t.Errorf("%d were made, %d run, %d rows; want 5", n, len(w.machine()), len(w.rows()))
		}
	})
}

// One account has asked for a hundred before another asks for one.
func TestStartsTakeTurnsByAccount(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.StartSlots = 1
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { time.Sleep(time.Second); return nil }
		s := w.server()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := s.Create(as(t, ada), simple()); err != nil && cube.KindOf(err) != cube.Timeout {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		begun := time.Now()
		createAs(t, s, bob)
		if waited := time.Since(begun); waited > 3*time.Second { // the start at work, one of ada's, its own
			t.Errorf("the other waited %s", waited)
		}
		wg.Wait()
	})
}

// What finds the line full is refused before anything is made or counted.
func TestAFullLineRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.StartSlots = 1
		w.quotaOf(cube.Limits{Sandboxes: 2 * maxOfAccount})
		release := make(chan struct{})
		w.engine.OnStart = func(ctx context.Context, _ cube.StartRequest) error { <-release; return ctx.Err() }
		s := w.server()
		waiting, leave := context.WithCancel(as(t, ada))
		defer leave()
		var wg sync.WaitGroup
		for range 1 + maxOfAccount {
			wg.Go(func() {
				_, err := s.Create(waiting, simple())
				wantKind(t, err, cube.Unavailable)
			})
		}
		synctest.Wait()
		w.wantOverQuota(s, ada)
		if rows := w.rows(); len(rows) != 1 || rows[0].State != cube.Starting {
			t.Errorf("%d rows, want that of the one that starts", len(rows))
		}
		if n := s.Gauges().Running; n != 1+maxOfAccount {
			t.Errorf("%d are counted, want %d", n, 1+maxOfAccount)
		}
		leave()
		close(release)
		wg.Wait()
		synctest.Wait()
		w.wantNothingLeft()
		if n := s.Gauges().Running; n != 0 {
			t.Errorf("%d are counted, want none", n)
		}
	})
}

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

func TestKillIsTrueForTheFirstAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		sandbox := mustCreate(t, s)
		done := s.Done(sandbox.ID)
		if err := s.Kill(t.Context(), sandbox.ID, "request-1"); err != nil {
			t.Fatal(err)
		}
		w.wantNothingLeft()
		if !isClosed(done) {
			t.Error("Done is still open")
		}
		err := s.Kill(t.Context(), sandbox.ID, "request-2")
		wantEnded(t, err, cube.EndKilled)
		if by := endOf(err).By; by != "request-1" {
			t.Errorf("killed by %q, want request-1", by)
		}
	})
}

func TestWhatNeverWasIsNotFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := cube.NewSandboxID()
		for name, err := range everyCall(s, id) {
			if cube.KindOf(err) != cube.NotFound {
				t.Errorf("%s: %v, want not found", name, err)
			}
		}
		if !isClosed(s.Done(id)) {
			t.Error("Done is open")
		}
	})
}

// everyCall makes each call about one sandbox, the last one ends it.
func everyCall(s *Sandboxes, id cube.SandboxID) map[string]error {
	ctx := context.Background()
	result := map[string]error{}
	_, result["Get"] = s.Get(ctx, id)
	_, result["Stats"] = s.Stats(ctx, id)
	_, result["Extend"] = s.Extend(ctx, id, time.Hour)
	result["SetTimeout"] = s.SetTimeout(ctx, id, time.Minute)
	conn, err := s.Dial(ctx, id, cube.AgentPort)
	if err == nil {
		err = conn.Close()
	}
	result["Dial"] = err
	result["Kill"] = s.Kill(ctx, id, "")
	return result
}

// Each state with each call: a sandbox is there while it runs, and only then.
func TestCallsInEachState(t *testing.T) {
	for _, test := range []struct {
		state cube.State
		reach func(t *testing.T, w *world, s *Sandboxes, release chan struct{}) // begins what leads there
		found bool
	}{
		{cube.Starting, func(t *testing.T, w *world, s *Sandboxes, release chan struct{}) {
			w.engine.OnStart = func(context.Context, cube.StartRequest) error { <-release; return nil }
			go func() { _, _ = s.Create(t.Context(), simple()) }()
		}, false},
		{cube.Running, func(t *testing.T, _ *world, s *Sandboxes, _ chan struct{}) {
			mustCreate(t, s)
		}, true},
		{cube.Killing, func(t *testing.T, w *world, s *Sandboxes, release chan struct{}) {
			w.engine.OnStop = func(context.Context, cube.SandboxID) error { <-release; return nil }
			sandbox := mustCreate(t, s)
			go func() { _ = s.Kill(t.Context(), sandbox.ID, "") }()
			time.AfterFunc(time.Second, func() { close(release) }) // for the second Kill
		}, false},
		{cube.Gone, func(t *testing.T, _ *world, s *Sandboxes, _ chan struct{}) {
			sandbox := mustCreate(t, s)
			if err := s.Kill(t.Context(), sandbox.ID, ""); err != nil {
				t.Error(err)
			}
		}, false},
	} {
		t.Run(string(test.state), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				release := make(chan struct{})
				s := w.server()
				test.reach(t, w, s, release)
				synctest.Wait()
				rows := w.rows(test.state)
				if len(rows) != 1 {
					t.Fatalf("%d sandboxes are %s, want 1", len(rows), test.state)
				}
				page, err := s.List(t.Context(), Query{Limit: MaxPage})
				if err != nil || (len(page.Sandboxes) == 1) != test.found || (page.TotalRunning == 1) != test.found {
					t.Errorf("listed %d of %d, %v", len(page.Sandboxes), page.TotalRunning, err)
				}
				for name, err := range everyCall(s, rows[0].ID) {
					if test.found && err != nil || !test.found && cube.KindOf(err) != cube.NotFound {
						t.Errorf("%s: %v", name, err)
					}
				}
				if test.state == cube.Starting {
					close(release)
				}
			})
		})
	}
}

func TestASecondKillWaitsForTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.engine.OnStop = func(context.Context, cube.SandboxID) error { time.Sleep(time.Second); return nil }
		s := w.server()
		sandbox := mustCreate(t, s)
		begun := time.Now()
		var succeeded atomic.Int32
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				switch err := s.Kill(t.Context(), sandbox.ID, ""); {
				case err == nil:
					succeeded.Add(1)
				default:
					wantEnded(t, err, cube.EndKilled)
				}
				wantEqual(t, "time until Kill returns", time.Since(begun), time.Second)
				w.wantNothingLeft()
			})
		}
		wg.Wait()
		if n := succeeded.Load(); n != 1 {
			t.Errorf("%d kills returned nil, want 1", n)
		}
	})
}

func TestAKillGoesOnWithoutItsClient(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.engine.OnStop = func(ctx context.Context, _ cube.SandboxID) error { time.Sleep(time.Second); return ctx.Err() }
		s := w.server()
		sandbox := mustCreate(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		wantKind(t, s.Kill(ctx, sandbox.ID, ""), cube.Unavailable)
		after(time.Second)
		w.wantEnd(sandbox.ID, cube.EndKilled)
		w.wantNothingLeft()
	})
}

func TestAStopThatFailsIsTriedUntilItSucceeds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.engine.OnStop = func(context.Context, cube.SandboxID) error { return errors.New("busy") }
		s := w.server()
		sandbox := mustCreate(t, s)
		begun := time.Now()
		wantKind(t, s.Kill(t.Context(), sandbox.ID, ""), cube.Unavailable)
		wantEqual(t, "time until Kill gives up waiting", time.Since(begun), killPatience)
		_, err := s.Get(t.Context(), sandbox.ID)
		wantEnded(t, err, cube.EndKilled)

		// Also by the next server.
		s.Close()
		stops := 0
		w.engine.OnStop = func(context.Context, cube.SandboxID) error {
			if stops++; stops < 5 {
				return errors.New("still busy")
			}
			return nil
		}
		w.server()
		after(10 * time.Second)
		w.wantNothingLeft()
		w.wantEnd(sandbox.ID, cube.EndKilled)
	})
}

func TestAnExitThatNobodyAskedForIsToldAfterwards(t *testing.T) {
	for _, test := range []struct {
		exit   cube.Exit
		reason cube.EndReason
	}{
		{cube.Exit{OutOfMemory: true}, cube.EndOutOfMemory},
		{cube.Exit{Detail: "its kernel panicked"}, cube.EndCrashed},
		{cube.Exit{}, cube.EndCrashed},
	} {
		t.Run(fmt.Sprintf("%+v", test.exit), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				s := w.server()
				sandbox := mustCreate(t, s)
				done := s.Done(sandbox.ID)
				w.engine.Die(sandbox.ID, test.exit)
				synctest.Wait()
				if !isClosed(done) {
					t.Error("Done is still open")
				}
				w.wantNothingLeft()
				w.wantEnd(sandbox.ID, test.reason)
				_, err := s.Get(t.Context(), sandbox.ID)
				wantEnded(t, err, test.reason)
				if detail := endOf(err).Detail; test.exit.Detail != "" && detail != test.exit.Detail {
					t.Errorf("detail = %q, want the engine's %q", detail, test.exit.Detail)
				}
			})
		})
	}
}

func TestEndedSandboxesAreForgottenAfterADay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		sandbox := mustCreate(t, s)
		if err := s.Kill(t.Context(), sandbox.ID, ""); err != nil {
			t.Fatal(err)
		}
		after(endRetention - time.Minute)
		_, err := s.Get(t.Context(), sandbox.ID)
		wantEnded(t, err, cube.EndKilled)
		after(time.Minute + deleteEvery)
		_, err = s.Get(t.Context(), sandbox.ID)
		wantKind(t, err, cube.NotFound)
		if endOf(err) != (cube.End{}) {
			t.Errorf("error = %v, want one that knows nothing of it", err)
		}
	})
}

func TestAfterCloseNothingBegins(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		sandbox := mustCreate(t, s)
		s.Close()
		_, err := s.Create(t.Context(), simple())
		wantKind(t, err, cube.Unavailable)
		wantKind(t, s.Kill(t.Context(), sandbox.ID, ""), cube.Unavailable)
		wantEqual(t, "sandboxes that run", ids(w.rows(cube.Running)), []cube.SandboxID{sandbox.ID})
		if n := len(w.machine()); n != 1 {
			t.Errorf("%d sandboxes run, want the one from before", n)
		}
	})
}

func TestCloseEndsWhatIsAtWork(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.engine.OnStart = func(ctx context.Context, _ cube.StartRequest) error { <-ctx.Done(); return ctx.Err() }
		s := w.server()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := s.Create(t.Context(), simple())
			wantKind(t, err, cube.Unavailable)
		})
		wg.Go(func() {
			_, err := s.Create(t.Context(), keyed("k", "a"))
			wantKind(t, err, cube.Unavailable)
		})
		synctest.Wait()
		begun := time.Now()
		s.Close()
		wg.Wait()
		wantEqual(t, "time until all has ended", time.Since(begun), time.Duration(0))
		w.engine.OnStart = nil
		w.server()
		synctest.Wait()
		w.wantNothingLeft()
	})
}

// countingStore counts the steps to Killing and to Gone of each sandbox.
type countingStore struct {
	cube.Store
	mu      sync.Mutex
	killing map[cube.SandboxID]int
	gone    map[cube.SandboxID]int
}

func (s *countingStore) UpdateSandbox(ctx context.Context, from cube.State, sandbox cube.Sandbox) error {
	if err := s.Store.UpdateSandbox(ctx, from, sandbox); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch sandbox.State {
	case cube.Killing:
		s.killing[sandbox.ID]++
	case cube.Gone:
		s.gone[sandbox.ID]++
	}
	return nil
}

// Kills, a deadline, an exit and an extension meet, a thousand times.
func TestOfManyEndsOneIsKept(t *testing.T) {
	w := newWorld(t)
	store := &countingStore{Store: w.store, killing: map[cube.SandboxID]int{}, gone: map[cube.SandboxID]int{}}
	w.config.Store, w.config.Engine = store, w.engine
	s := w.server()
	reasons := map[cube.EndReason]int{}
	for range 1000 {
		sandbox := mustCreate(t, s)
		var killed atomic.Int32
		start := make(chan struct{})
		var wg sync.WaitGroup
		race := func(f func()) { wg.Go(func() { <-start; f() }) }
		for range 2 {
			race(func() {
				switch err := s.Kill(t.Context(), sandbox.ID, "request"); {
				case err == nil:
					killed.Add(1)
				case cube.KindOf(err) != cube.NotFound:
					t.Errorf("kill: %v", err)
				}
			})
		}
		race(func() { w.engine.Die(sandbox.ID, cube.Exit{OutOfMemory: true}) })
		race(func() {
			if err := s.SetTimeout(t.Context(), sandbox.ID, 0); err != nil && cube.KindOf(err) != cube.NotFound {
				t.Errorf("set timeout: %v", err)
			}
		})
		race(func() {
			if _, err := s.Extend(t.Context(), sandbox.ID, time.Hour); err != nil && cube.KindOf(err) != cube.NotFound {
				t.Errorf("extend: %v", err)
			}
		})
		close(start)
		wg.Wait() // a Kill was among them, so nothing is left

		row, err := w.store.Sandbox(t.Context(), sandbox.ID)
		if err != nil || row.State != cube.Gone || row.End == nil {
			t.Fatalf("row = %+v, %v; want one that is gone", row, err)
		}
		reasons[row.End.Reason]++
		if want := row.End.Reason == cube.EndKilled; (killed.Load() == 1) != want || killed.Load() > 1 {
			t.Fatalf("ended as %q, and %d kills returned nil", row.End.Reason, killed.Load())
		}
		if k, g := store.killing[sandbox.ID], store.gone[sandbox.ID]; k != 1 || g != 1 {
			t.Fatalf("%d steps to Killing and %d to Gone, want one each", k, g)
		}
	}
	w.wantNothingLeft()
	t.Log("who won:", reasons)
}

// endOf returns why the sandbox that an error is about has ended, the zero value
// if the error does not say.
func endOf(err error) cube.End {
	if e, ok := errors.AsType[*cube.Error](err); ok && e.Ended != nil {
		return *e.Ended
	}
	return cube.End{}
}

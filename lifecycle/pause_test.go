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

func mustPause(t *testing.T, s *Sandboxes, id cube.SandboxID, memory bool) {
	t.Helper()
	if err := s.Pause(t.Context(), id, memory); err != nil {
		t.Fatalf("pausing: %v", err)
	}
}

func mustConnect(t *testing.T, s *Sandboxes, id cube.SandboxID) cube.Sandbox {
	t.Helper()
	sandbox, resumed, err := s.Connect(t.Context(), id, time.Minute, true)
	if err != nil || !resumed {
		t.Fatalf("resuming: %t, %v", resumed, err)
	}
	return sandbox
}

// private is a request for a sandbox that wants both tokens.
func private(req *CreateRequest) { req.Secure, req.Private = true, true }

// waking is a request for one that traffic wakes.
func waking(req *CreateRequest) {
	req.Expiry = cube.Expiry{Pause: true, Memory: true, Resume: true}
}

func TestAPausedSandboxIsWhatItWas(t *testing.T) {
	for _, memory := range []bool{true, false} {
		inBubble(t, func(t *testing.T, w *world) {
			s := w.server()
			was := mustCreate(t, s, private, func(r *CreateRequest) { r.EnvVars = map[string]string{"A": "b"} })
			boot := w.engine.Boot(was.ID)
			w.engine.Write(was.ID, "line")
			over := s.Done(was.ID)
			time.Sleep(time.Minute)

			mustPause(t, s, was.ID, memory)
			if !isClosed(over) || !isClosed(s.Done(was.ID)) {
				t.Error("its streams were not told that it is paused")
			}
			if left := w.machine(); len(left) > 0 {
				t.Errorf("the engine still has %v", left)
			}
			w.wantSnapshots(1)
			paused, err := s.Get(t.Context(), was.ID)
			if err != nil || paused.State != cube.Paused || !paused.EndAt.Equal(now()) {
				t.Errorf("paused: %+v, %v", paused, err)
			}
			time.Sleep(24 * time.Hour) // no deadline is its own

			got := mustConnect(t, s, was.ID)
			want := was
			want.EndAt = now().Add(time.Minute)
			wantEqual(t, "the resumed sandbox", got, want)
			if same := w.engine.Boot(was.ID) == boot; same != memory {
				t.Errorf("the same boot: %t, want %t", same, memory)
			}
			wantEqual(t, "its files", w.engine.Files(was.ID), []string{"line"})
			settings, _ := w.engine.Settings(was.ID)
			wantEqual(t, "its agent's environment", settings.EnvVars, map[string]string{"A": "b"})
			if settings.AccessToken != was.AccessToken || settings.HostKey != was.HostKey || !settings.Timestamp.Equal(time.Now()) {
				t.Errorf("its agent has the settings %+v", settings)
			}
			synctest.Wait()
			w.wantSnapshots(0)

			time.Sleep(2 * time.Minute)
			w.wantEnd(was.ID, cube.EndDeadline)
		})
	}
}

func TestAHundredPausesInARowLoseNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s).ID
		boot := w.engine.Boot(id)
		var want []string
		for range 100 {
			want = append(want, "line")
			w.engine.Write(id, "line")
			mustPause(t, s, id, true)
			mustConnect(t, s, id)
		}
		wantEqual(t, "its files", w.engine.Files(id), want)
		if w.engine.Boot(id) != boot {
			t.Error("its memory is another")
		}
		if err := s.Kill(t.Context(), id, "x"); err != nil {
			t.Error(err)
		}
		w.wantNothingLeft()
	})
}

func TestAFailedPauseLeavesTheSandboxRunning(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s).ID
		over := s.Done(id)
		w.engine.OnCheckpoint = func(context.Context, cube.CheckpointRequest) error {
			return cube.Errorf(cube.Exhausted, "the disk is full")
		}
		wantKind(t, s.Pause(t.Context(), id, true), cube.Exhausted)
		row, err := s.Get(t.Context(), id)
		if err != nil || row.State != cube.Running || row.Snapshot != "" || isClosed(over) {
			t.Errorf("afterwards: %+v, %v, streams ended: %t", row, err, isClosed(over))
		}
		time.Sleep(10 * time.Minute) // its deadline is what it was
		w.wantEnd(id, cube.EndDeadline)
		w.wantNothingLeft()
	})
}

func TestAFailedResumeLeavesTheSandboxPaused(t *testing.T) {
	for _, stage := range []string{"start", "init"} {
		inBubble(t, func(t *testing.T, w *world) {
			w.config.MaxSandboxes = 1
			s := w.server()
			id := mustCreate(t, s).ID
			w.engine.Write(id, "line")
			mustPause(t, s, id, true)
			paused, _ := s.Get(t.Context(), id)
			time.Sleep(time.Hour)
			if stage == "start" {
				w.engine.OnStart = func(context.Context, cube.StartRequest) error { return errors.New("on purpose") }
			} else {
				w.engine.OnInit = func(cube.SandboxID) error { return errors.New("on purpose") }
			}
			_, _, err := s.Connect(t.Context(), id, time.Minute, true)
			wantKind(t, err, cube.Internal)
			again, err := s.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			wantEqual(t, "the sandbox after its failed resume", again, paused)
			w.engine.OnStart, w.engine.OnInit = nil, nil
			mustConnect(t, s, id) // it has given its place back
			wantEqual(t, "its files", w.engine.Files(id), []string{"line"})
		})
	}
}

func TestWhatCannotBePausedOrResumed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s).ID
		_, err := s.Resume(t.Context(), id, time.Minute, nil, true)
		wantKind(t, err, cube.Conflict)
		if _, resumed, err := s.Connect(t.Context(), id, time.Hour, true); resumed || err != nil {
			t.Errorf("connecting to one that runs: resumed %t, %v", resumed, err)
		}
		mustPause(t, s, id, true)
		wantKind(t, s.Pause(t.Context(), id, true), cube.Conflict)
		_, err = s.CreateSnapshot(t.Context(), id, "")
		wantKind(t, err, cube.Conflict)
		_, err = s.Fork(t.Context(), id, 1, time.Minute)
		wantKind(t, err, cube.Conflict)
		wantKind(t, s.SetTimeout(t.Context(), id, time.Minute), cube.NotFound)
		_, err = s.Stats(t.Context(), id)
		wantKind(t, err, cube.NotFound)
		_, _, err = s.Connect(t.Context(), id, time.Minute, false)
		wantKind(t, err, cube.Invalid)
		if err := s.Kill(t.Context(), id, "x"); err != nil {
			t.Errorf("killing a paused one: %v", err)
		}
		w.wantEnd(id, cube.EndKilled)
		w.wantNothingLeft()
		wantKind(t, s.Pause(t.Context(), id, true), cube.NotFound)
		_, _, err = s.Connect(t.Context(), id, time.Minute, true)
		wantEnded(t, err, cube.EndKilled)
	})
}

func TestManyPausesAndManyResumesAreOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var paused, resumed atomic.Int32
		w.config.Observe = func(_ context.Context, e Event) {
			switch e.Kind {
			case EventPaused:
				paused.Add(1)
			case EventResumed:
				resumed.Add(1)
			case EventCreated, EventTimeout, EventEnded:
			}
		}
		// Long enough for all to come while the first is at work.
		w.engine.OnCheckpoint = func(context.Context, cube.CheckpointRequest) error { time.Sleep(time.Second); return nil }
		s := w.server()
		id := mustCreate(t, s).ID
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { time.Sleep(time.Second); return nil }
		for round := range int32(5) {
			var group sync.WaitGroup
			for range 10 {
				group.Go(func() {
					if err := s.Pause(t.Context(), id, true); err != nil {
						t.Errorf("a pause while it is being paused: %v", err)
					}
				})
			}
			group.Wait()
			wantKind(t, s.Pause(t.Context(), id, true), cube.Conflict)
			for range 5 {
				group.Go(func() {
					if _, _, err := s.Connect(t.Context(), id, time.Minute, true); err != nil {
						t.Errorf("connecting while it is being resumed: %v", err)
					}
				})
				group.Go(func() {
					if sandbox, err := s.Resume(t.Context(), id, time.Minute, nil, true); err != nil || sandbox.State != cube.Running {
						t.Errorf("a resume while it is being resumed: %s, %v", sandbox.State, err)
					}
				})
			}
			group.Wait()
			_, err := s.Resume(t.Context(), id, time.Minute, nil, true)
			wantKind(t, err, cube.Conflict)
			if paused.Load() != round+1 || resumed.Load() != round+1 {
				t.Errorf("%d pauses and %d resumes, want %d", paused.Load(), resumed.Load(), round+1)
			}
		}
	})
}

func TestAKillBeatsWhateverIsAtWork(t *testing.T) {
	for name, at := range map[string]func(*world, func(context.Context) error){
		"a pause": func(w *world, f func(context.Context) error) {
			w.engine.OnCheckpoint = func(ctx context.Context, _ cube.CheckpointRequest) error { return f(ctx) }
		},
		"a resume": func(w *world, f func(context.Context) error) {
			w.engine.OnStart = func(ctx context.Context, _ cube.StartRequest) error { return f(ctx) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				s := w.server()
				id := mustCreate(t, s).ID
				if name == "a resume" {
					mustPause(t, s, id, true)
				}
				started := make(chan struct{})
				at(w, func(ctx context.Context) error {
					close(started)
					<-ctx.Done() // it takes for ever, unless somebody ends it
					return ctx.Err()
				})
				failed := make(chan error, 1)
				go func() {
					if name == "a pause" {
						failed <- s.Pause(context.Background(), id, true)
						return
					}
					_, _, err := s.Connect(context.Background(), id, time.Minute, true)
					failed <- err
				}()
				<-started
				if err := s.Kill(t.Context(), id, "x"); err != nil {
					t.Fatal(err)
				}
				wantEnded(t, <-failed, cube.EndKilled)
				w.wantEnd(id, cube.EndKilled)
				w.wantNothingLeft()
				if n := s.Gauges().Running; n != 0 {
					t.Errorf("%d sandboxes are counted", n)
				}
			})
		})
	}
}

func TestADeadlineThatPauses(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s, waking, func(r *CreateRequest) { r.Expiry.Memory = false }).ID
		time.Sleep(5*time.Minute + time.Second)
		row, err := s.Get(t.Context(), id)
		if err != nil || row.State != cube.Paused || row.SnapshotMemory {
			t.Fatalf("after its deadline: %+v, %v", row, err)
		}
		mustConnect(t, s, id)
		if err := s.SetTimeout(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
		if row, err := s.Get(t.Context(), id); err != nil || row.State != cube.Paused {
			t.Errorf("after its time was set to nothing: %+v, %v", row, err)
		}
		_, err = s.Resume(t.Context(), id, time.Minute, new(bool), true)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		w.wantEnd(id, cube.EndDeadline) // it was resumed to end
		w.wantNothingLeft()
	})
}

func TestADeadlineThatCannotPauseLosesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var room atomic.Bool
		w.engine.OnCheckpoint = func(context.Context, cube.CheckpointRequest) error {
			if room.Load() {
				return nil
			}
			return cube.Errorf(cube.Exhausted, "the disk is full")
		}
		s := w.server()
		id := mustCreate(t, s, waking).ID
		time.Sleep(time.Hour)
		synctest.Wait()
		if row, err := s.Get(t.Context(), id); err != nil || row.State != cube.Running {
			t.Errorf("without room on the disk: %+v, %v", row, err)
		}
		room.Store(true)
		time.Sleep(2 * lastRetry)
		if row, err := s.Get(t.Context(), id); err != nil || row.State != cube.Paused {
			t.Errorf("once there was room: %+v, %v", row, err)
		}
	})
}

// TestATimeoutOfZeroThatCannotPauseIsTriedAgain has a client that wants the
// sandbox paused now and gets an error: it must not run on without a deadline.
func TestATimeoutOfZeroThatCannotPauseIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var room atomic.Bool
		w.engine.OnCheckpoint = func(context.Context, cube.CheckpointRequest) error {
			if room.Load() {
				return nil
			}
			return cube.Errorf(cube.Exhausted, "the disk is full")
		}
		s := w.server()
		id := mustCreate(t, s, waking).ID
		wantKind(t, s.SetTimeout(t.Context(), id, 0), cube.Exhausted)
		room.Store(true)
		time.Sleep(2 * lastRetry)
		if row, err := s.Get(t.Context(), id); err != nil || row.State != cube.Paused {
			t.Errorf("once there was room: %+v, %v", row, err)
		}
	})
}

func TestAPausedSandboxTakesNoPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.MaxSandboxes = 1
		w.config.Quota = quota.NewLedger(cube.Limits{Sandboxes: 1, CreatesPerMinute: 3})
		s := w.server()
		first := mustCreate(t, s).ID
		mustPause(t, s, first, true)
		second := mustCreate(t, s).ID
		_, _, err := s.Connect(t.Context(), first, time.Minute, true)
		wantKind(t, err, cube.Exhausted)
		if row, err := s.Get(t.Context(), first); err != nil || row.State != cube.Paused {
			t.Errorf("the refused one: %+v, %v", row, err)
		}
		mustPause(t, s, second, true)
		for range 5 { // resuming is no create
			mustConnect(t, s, first)
			mustPause(t, s, first, true)
		}
		if g := s.Gauges(); g != (Gauges{Paused: 2, SnapshotBytes: 2 << 20}) {
			t.Errorf("gauges = %+v", g)
		}
	})
}

func TestASandboxThatDiesWhileItIsKeptHasCrashed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s).ID
		w.engine.OnCheckpoint = func(context.Context, cube.CheckpointRequest) error {
			w.engine.Die(id, cube.Exit{OutOfMemory: true})
			return nil
		}
		wantKind(t, s.Pause(t.Context(), id, true), cube.NotFound)
		synctest.Wait()
		w.wantEnd(id, cube.EndOutOfMemory)
		w.wantNothingLeft()
	})
}

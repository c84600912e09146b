package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

// leave puts a row and a sandbox of the engine into the world, as a server that
// died would have left them; "" for no row.
func (w *world) leave(state cube.State, runs bool) cube.SandboxID {
	w.t.Helper()
	sandbox := cube.Sandbox{
		ID: cube.NewSandboxID(), Template: "tbase", State: state,
		StartedAt: now(), EndAt: now().Add(5 * time.Minute), Resources: w.config.Templates[0].Resources,
	}
	switch state {
	case cube.Pausing, cube.Paused, cube.Resuming:
		sandbox.Snapshot, sandbox.SnapshotMemory = cube.NewSnapshotID(), true
	}
	if state == cube.Killing || state == cube.Gone {
		sandbox.End = &cube.End{Reason: cube.EndKilled, At: now(), Detail: "a request killed it"}
	}
	if state != "" {
		if err := w.store.CreateSandbox(w.t.Context(), sandbox, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	_, err := w.engine.Start(w.t.Context(), cube.StartRequest{
		ID: sandbox.ID, Snapshot: cube.BaseSnapshot, Resources: w.config.Templates[0].Resources,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if !runs {
		w.engine.Die(sandbox.ID, cube.Exit{})
	}
	return sandbox.ID
}

func TestRecoverBringsStoreAndEngineTogether(t *testing.T) {
	for _, test := range []struct {
		state cube.State // "": no row
		runs  bool
		want  cube.EndReason // "": it runs, or there is no row
	}{
		{cube.Starting, true, cube.EndLost},
		{cube.Starting, false, cube.EndLost},
		{cube.Running, true, ""},
		{cube.Running, false, cube.EndLost},
		{cube.Killing, true, cube.EndKilled},
		{cube.Killing, false, cube.EndKilled},
		{cube.Gone, true, cube.EndKilled},
		{cube.Gone, false, cube.EndKilled},
		{"", true, ""},
		{"", false, ""},
	} {
		t.Run(fmt.Sprintf("row %q, runs %t", test.state, test.runs), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				id := w.leave(test.state, test.runs)
				s := w.server()
				synctest.Wait()
				if test.state == cube.Running && test.runs {
					w.wantAdopted(s, id)
					return
				}
				w.wantNothingLeft()
				if test.state == "" {
					_, err := s.Get(t.Context(), id)
					wantKind(t, err, cube.NotFound)
					return
				}
				w.wantEnd(id, test.want)
			})
		})
	}
}

// wantAdopted checks that a server serves a sandbox as if it had made it.
func (w *world) wantAdopted(s *Sandboxes, id cube.SandboxID) {
	w.t.Helper()
	sandbox, err := s.Get(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	conn, err := s.Dial(w.t.Context(), id, cube.AgentPort)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		w.t.Error(err)
	}
	after(time.Until(sandbox.EndAt) - time.Millisecond)
	if isClosed(s.Done(id)) {
		w.t.Error("it ended before its deadline")
	}
	after(time.Millisecond)
	w.wantEnd(id, cube.EndDeadline)
	w.wantNothingLeft()
}

func TestADeadlineThatPassedWhileNoServerRanIsActedUpon(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		id := w.leave(cube.Running, true)
		time.Sleep(time.Hour)
		w.server()
		synctest.Wait()
		w.wantEnd(id, cube.EndDeadline)
		w.wantNothingLeft()
	})
}

func TestAnAdoptedSandboxIsWatched(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		id := w.leave(cube.Running, true)
		w.server()
		w.engine.Die(id, cube.Exit{OutOfMemory: true})
		synctest.Wait()
		w.wantEnd(id, cube.EndOutOfMemory)
	})
}

func TestRecoverFailsIfItCannotSeeWhatThereIs(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.leave(cube.Running, true)
		dead := &crash{}
		for name, config := range map[string]Config{
			"store":  {Store: crashingStore{w.store, dead}, Engine: w.engine, Log: w.config.Log},
			"engine": {Store: w.store, Engine: crashingEngine{w.engine, dead}, Log: w.config.Log},
		} {
			dead.dead = true
			s := New(config)
			if err := s.Recover(t.Context()); !errors.Is(err, errCrashed) {
				t.Errorf("with a dead %s: %v", name, err)
			}
			s.Close()
		}
		if n := len(w.machine()); n != 1 {
			t.Errorf("%d sandboxes run, want the one that was there", n)
		}
	})
}

// Recovery decides about a thousand sandboxes at once, and removes them behind,
// a few at a time.
func TestRecoverDoesNotWaitForRemovals(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const each = 200
		var adopted []cube.SandboxID
		for range each {
			adopted = append(adopted, w.leave(cube.Running, true))
			w.leave(cube.Running, false)
			w.leave(cube.Starting, true)
			w.leave(cube.Killing, true)
			w.leave("", true)
		}
		var mu sync.Mutex
		atWork, most := 0, 0
		w.engine.OnStop = func(context.Context, cube.SandboxID) error {
			mu.Lock()
			atWork++
			most = max(most, atWork)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			atWork--
			return nil
		}
		begun := time.Now()
		s := w.server()
		wantEqual(t, "time that Recover waited", time.Since(begun), time.Duration(0))
		page, err := s.List(t.Context(), Query{Limit: 1})
		if err != nil || page.TotalRunning != each {
			t.Errorf("%d run, %v; want %d", page.TotalRunning, err, each)
		}
		after(4 * each / stopSlots * time.Second)
		if most != stopSlots {
			t.Errorf("%d were removed at once, want %d", most, stopSlots)
		}
		var left []cube.SandboxID
		for _, e := range w.machine() {
			left = append(left, e.ID)
		}
		slices.Sort(adopted)
		wantEqual(t, "what the engine has", left, adopted)
	})
}

var errCrashed = errors.New("the server is dead")

// crash stops a server's world at one of its steps. From then on nothing that
// the server does has an effect, as after kill -9.
type crash struct {
	mu     sync.Mutex
	left   int  // steps that still work
	effect bool // the step at which it dies has its effect
	dead   bool
}

// step is something that changes the world.
func (c *crash) step(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errCrashed
	}
	if c.left > 0 {
		c.left--
		return do()
	}
	c.dead = true
	if c.effect {
		_ = do() // the server does not live to see the result
	}
	return errCrashed
}

func (c *crash) alive() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errCrashed
	}
	return nil
}

type crashingStore struct {
	cube.Store
	crash *crash
}

func (s crashingStore) CreateSandbox(ctx context.Context, sandbox cube.Sandbox, key *cube.Idempotency) error {
	return s.crash.step(func() error { return s.Store.CreateSandbox(ctx, sandbox, key) })
}

func (s crashingStore) UpdateSandbox(ctx context.Context, from cube.State, sandbox cube.Sandbox) error {
	return s.crash.step(func() error { return s.Store.UpdateSandbox(ctx, from, sandbox) })
}

func (s crashingStore) ListSandboxes(ctx context.Context, q cube.SandboxQuery) ([]cube.Sandbox, int, error) {
	if err := s.crash.alive(); err != nil {
		return nil, 0, err
	}
	return s.Store.ListSandboxes(ctx, q)
}

type crashingEngine struct {
	cube.Engine
	crash *crash
}

func (e crashingEngine) Start(ctx context.Context, req cube.StartRequest) (timings cube.Timings, err error) {
	err = e.crash.step(func() error { timings, err = e.Engine.Start(ctx, req); return err })
	return timings, err
}

func (e crashingEngine) Stop(ctx context.Context, id cube.SandboxID) error {
	return e.crash.step(func() error { return e.Engine.Stop(ctx, id) })
}

func (e crashingEngine) List(ctx context.Context) ([]cube.EngineSandbox, error) {
	if err := e.crash.alive(); err != nil {
		return nil, err
	}
	return e.Engine.List(ctx)
}

func (e crashingEngine) Wait(ctx context.Context, id cube.SandboxID) (cube.Exit, error) {
	exit, err := e.Engine.Wait(ctx, id)
	if crashed := e.crash.alive(); crashed != nil {
		return cube.Exit{}, crashed
	}
	return exit, err
}

// A server dies at each step of a create and a kill, before and after the step
// has its effect. The next one must leave nothing behind and keep what runs.
func TestAServerMayDieAtAnyStep(t *testing.T) {
	for _, effect := range []bool{false, true} {
		for step, died := 0, true; died; step++ {
			t.Run(fmt.Sprintf("step %d, with effect %t", step, effect), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					died = dieAndRecover(t, w, &crash{left: step, effect: effect})
				})
			})
			if step > 20 {
				t.Fatal("a create and a kill have no end")
			}
		}
	}
}

// dieAndRecover tells whether the server died before it was done.
func dieAndRecover(t *testing.T, w *world, c *crash) bool {
	first := New(Config{
		Store:     crashingStore{w.store, c},
		Engine:    crashingEngine{w.engine, c},
		Templates: w.config.Templates,
		Log:       w.config.Log,
	})
	created, createErr := first.Create(t.Context(), keyed("k", "a"))
	synctest.Wait()
	killErr := errCrashed
	if createErr == nil {
		killErr = first.Kill(t.Context(), created.Sandbox.ID, "request")
	}
	first.Close()

	before := w.rows()
	second := w.server()
	synctest.Wait()
	for _, row := range before {
		switch {
		case row.State == cube.Starting:
			w.wantEnd(row.ID, cube.EndLost)
		case row.State == cube.Running:
			if _, err := second.Get(t.Context(), row.ID); err != nil {
				t.Errorf("a sandbox that ran was not adopted: %v", err)
			}
		default:
			w.wantEnd(row.ID, cube.EndKilled)
		}
	}
	var running []cube.EngineSandbox
	for _, row := range w.rows(cube.Running) {
		running = append(running, cube.EngineSandbox{ID: row.ID, Running: true})
	}
	wantEqual(t, "what the engine has", w.machine(), running)

	again, err := second.Create(t.Context(), keyed("k", "a"))
	switch ranBefore := len(before) == 1 && before[0].State != cube.Starting; {
	case len(running) == 1:
		if err != nil || again.Sandbox.ID != running[0].ID {
			t.Errorf("the key gives %s, %v; want the sandbox that was adopted", again.Sandbox.ID, err)
		}
	case ranBefore:
		wantKind(t, err, cube.Conflict)
	case err != nil || again.Replayed:
		t.Errorf("the key gives %+v, %v; want a new sandbox", again, err)
	}
	after(simple().Timeout)
	w.wantNothingLeft()
	return createErr != nil || killErr != nil
}

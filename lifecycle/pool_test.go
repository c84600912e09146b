package lifecycle

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

// pooled starts a server with a pool, and fills it by a first create.
func pooled(t *testing.T, w *world, size int) (*Sandboxes, cube.Sandbox) {
	t.Helper()
	w.config.PoolSize = size
	s := w.server()
	first := mustCreate(t, s)
	wait()
	return s, first
}

// wait lets the filler do what it has to do.
func wait() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func TestASandboxOfThePoolBecomesTheWantedOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s, first := pooled(t, w, 2)
		if g := s.Gauges(); g != (Gauges{Running: 1, Pooled: 2}) {
			t.Fatalf("gauges = %+v", g)
		}
		for _, spare := range w.machine() {
			if spare.ID == first.ID {
				continue
			}
			settings, _ := w.engine.Settings(spare.ID)
			if settings.AccessToken == "" || settings.HostKey == "" || settings.SandboxID != spare.ID {
				t.Error("one that nobody has claimed is open")
			}
			_, found := s.FindByAccessToken(func(token string) bool { return token == settings.AccessToken })
			if found {
				t.Error("the token of one that nobody has claimed is known")
			}
			_, err := s.Dial(t.Context(), spare.ID, cube.AgentPort)
			wantKind(t, err, cube.NotFound)
			_, err = s.Visit(t.Context(), spare.ID, Visitor{})
			wantKind(t, err, cube.NotFound)
			_, err = s.Get(t.Context(), spare.ID)
			wantKind(t, err, cube.NotFound)
		}
		if n := len(w.rows()); n != 1 {
			t.Errorf("%d rows, want that of the first one", n)
		}
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { return errors.New("nothing starts now") }
		second := mustCreate(t, s, private, func(r *CreateRequest) {
			r.EnvVars, r.Metadata = map[string]string{"A": "b"}, map[string]string{"c": "d"}
		})
		row, err := s.Get(t.Context(), second.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "its row", row, second)
		settings, _ := w.engine.Settings(second.ID)
		if settings.AccessToken != second.AccessToken || settings.EnvVars["A"] != "b" || settings.SandboxID != second.ID {
			t.Errorf("its agent has the settings %+v", settings)
		}
		time.Sleep(6 * time.Minute)
		w.wantEnd(second.ID, cube.EndDeadline)
	})
}

func TestAClaimTellsTheAgentOnlyWhatItDoesNotKnow(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.PoolSize = 1
		s := w.server()
		s.FillPool("base")
		s.FillPool("nothing of the kind")
		wait()
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { return errors.New("nothing starts now") }
		before := w.machine()
		if len(before) != 1 {
			t.Fatalf("the machine has %v before anybody has asked", before)
		}
		made, _ := w.engine.Settings(before[0].ID)
		created := mustCreate(t, s, private, func(r *CreateRequest) { r.Metadata = map[string]string{"c": "d"} })
		after, _ := w.engine.Settings(created.ID)
		wantEqual(t, "what its agent was told", after, made)
		if created.AccessToken != made.AccessToken || created.HostKey != made.HostKey {
			t.Error("its row does not hold what its agent goes by")
		}
		id, found := s.FindByAccessToken(func(token string) bool { return token == created.AccessToken })
		if !found || id != created.ID {
			t.Error("its token is not known")
		}
		s.Close()
		row, err := w.server().Get(t.Context(), created.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "its row after a restart", row, created)
	})
}

func TestAnOpenSandboxOfThePoolHasNoToken(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s, _ := pooled(t, w, 1)
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { return errors.New("nothing starts now") }
		created := mustCreate(t, s)
		settings, _ := w.engine.Settings(created.ID)
		if settings.AccessToken != "" || settings.HostKey != created.HostKey {
			t.Errorf("its agent is not open, or goes by another key")
		}
	})
}

func TestThePoolServesOnlyWhatFits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s, _ := pooled(t, w, 1)
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { return errors.New("nothing starts now") }
		for name, change := range map[string]func(*CreateRequest){
			"without the internet":      func(r *CreateRequest) { r.Internet = false },
			"of another template":       func(r *CreateRequest) { r.Template = "plain" },
			"of a snapshot that is not": func(r *CreateRequest) { r.Template = "nope" },
		} {
			req := simple()
			change(&req)
			if created, err := s.Create(t.Context(), req); err == nil {
				t.Errorf("%s: %+v was claimed", name, created.Sandbox)
			}
		}
		mustCreate(t, s)
	})
}

func TestADeadOneOfThePoolIsReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fail, failed := false, false
		w.engine.OnInit = func(cube.SandboxID) error {
			if fail && !failed {
				failed = true
				return errors.New("on purpose")
			}
			return nil
		}
		s, first := pooled(t, w, 1)
		for _, spare := range w.machine() {
			if spare.ID != first.ID {
				w.engine.Die(spare.ID, cube.Exit{})
			}
		}
		wait()
		if g := s.Gauges(); g.Pooled != 1 || len(w.machine()) != 2 {
			t.Errorf("gauges = %+v, machine %v", g, w.machine())
		}
		// One that does not answer is none.
		fail = true
		mustCreate(t, s, func(r *CreateRequest) { r.EnvVars = map[string]string{"A": "b"} })
		if !failed {
			t.Error("the pool was not asked")
		}
	})
}

func TestThePoolMakesRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.MaxSandboxes = 3
		s, _ := pooled(t, w, 2)
		mustCreate(t, s, func(r *CreateRequest) { r.Internet = false })
		mustCreate(t, s, func(r *CreateRequest) { r.Internet = false })
		wait()
		if g := s.Gauges(); g != (Gauges{Running: 3}) {
			t.Errorf("gauges = %+v, want no place for the pool", g)
		}
		if n := len(w.machine()); n != 3 {
			t.Errorf("%d sandboxes on the machine", n)
		}
	})
}

func TestAChangedTemplateAndAStopEmptyThePool(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s, first := pooled(t, w, 2)
		changed := w.config.Templates[0]
		changed.Resources.MemoryMB = 256
		s.SetTemplate(changed)
		wait()
		if n := len(w.machine()); n != 1 {
			t.Errorf("%d sandboxes on the machine after the change", n)
		}
		if second := mustCreate(t, s); second.Resources.MemoryMB != 256 {
			t.Errorf("the new one has %+v", second.Resources)
		}
		wait()
		s.Close()
		if n := len(w.machine()); n != 2 {
			t.Errorf("%d sandboxes on the machine after the stop, want those with owners", n)
		}
		if _, err := w.server().Get(t.Context(), first.ID); err != nil {
			t.Error(err)
		}
	})
}

func TestATemplateThatChangesWhileThePoolIsFilledLeavesNoneOfTheOld(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var once sync.Once
		var s *Sandboxes
		w.engine.OnStart = func(context.Context, cube.StartRequest) error {
			if len(w.rows(cube.Starting)) == 0 { // it is for the pool
				once.Do(func() { s.SetTemplate(w.config.Templates[0]) })
			}
			return nil
		}
		w.config.PoolSize = 1
		s = w.server()
		mustCreate(t, s)
		wait()
		if g := s.Gauges(); g.Pooled != 0 || len(w.machine()) != 1 {
			t.Errorf("gauges = %+v, machine %v", g, w.machine())
		}
	})
}

func TestThePoolLeavesTheMachineItsMemory(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.FreeMemory = func() int64 { return minFreeMemory }
		s, _ := pooled(t, w, 2)
		if g := s.Gauges(); g.Pooled != 0 {
			t.Errorf("gauges = %+v", g)
		}
	})
}

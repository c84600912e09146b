package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cube"
	"cube/engine/fake"
	"cube/store/sqlite"
)

// world is what outlives a server: the store and the machine.
type world struct {
	t      *testing.T
	store  cube.Store
	engine *fake.Engine
	config Config
}

// inBubble runs a test in a bubble, with a world of its own. The bubble fails if
// a goroutine is left behind.
func inBubble(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

func newWorld(t *testing.T) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "cube.db"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, engine: &fake.Engine{}}
	w.config = Config{
		Templates: []cube.Template{
			{
				ID: "tbase", Aliases: []string{"base", "small"}, Snapshot: cube.BaseSnapshot,
				Resources: cube.Resources{CPUs: 2, MemoryMB: 512, DiskMB: 1024, Pids: 4096},
			},
			{
				ID: "plain", Snapshot: cube.BaseSnapshot,
				Resources: cube.Resources{CPUs: 1, MemoryMB: 128, DiskMB: 64, Pids: 64},
			},
			{ID: "broken", Snapshot: "no-such-snapshot"},
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	t.Cleanup(func() {
		w.engine.OnStop = nil
		for _, s := range w.machine() {
			if err := w.engine.Stop(context.Background(), s.ID); err != nil {
				t.Error(err)
			}
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// server starts a server in the world. With recover it takes over what the last
// one left.
func (w *world) server() *Sandboxes {
	w.t.Helper()
	if w.config.Store == nil {
		w.config.Store, w.config.Engine = w.store, w.engine
	}
	s := New(w.config)
	w.t.Cleanup(s.Close)
	if err := s.Recover(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// machine lists what the engine has.
func (w *world) machine() []cube.EngineSandbox {
	w.t.Helper()
	list, err := w.engine.List(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// rows lists the rows in a state, all for none.
func (w *world) rows(states ...cube.State) []cube.Sandbox {
	w.t.Helper()
	rows, _, err := w.store.ListSandboxes(context.Background(), cube.SandboxQuery{States: states, Ascending: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// wantNothingLeft checks that there is no sandbox but ended ones.
func (w *world) wantNothingLeft() {
	w.t.Helper()
	if left := w.machine(); len(left) > 0 {
		w.t.Errorf("the engine still has %v", left)
	}
	if left := w.rows(cube.Starting, cube.Running, cube.Pausing, cube.Paused, cube.Resuming, cube.Killing); len(left) > 0 {
		w.t.Errorf("rows that have not ended: %v", ids(left))
	}
	w.wantSnapshots(0)
}

// wantSnapshots checks how many snapshots the engine has.
func (w *world) wantSnapshots(want int) {
	w.t.Helper()
	list, err := w.engine.Snapshots(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	if len(list) != want {
		w.t.Errorf("the engine has the snapshots %v, want %d", list, want)
	}
}

// wantEnd checks how a sandbox has ended, by its row.
func (w *world) wantEnd(id cube.SandboxID, want cube.EndReason) {
	w.t.Helper()
	row, err := w.store.Sandbox(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	if row.State != cube.Gone || row.End == nil || row.End.Reason != want || row.End.Detail == "" {
		w.t.Errorf("sandbox %s is %s with end %+v, want gone as %q with a detail", id, row.State, row.End, want)
	}
}

func ids(sandboxes []cube.Sandbox) []cube.SandboxID {
	list := make([]cube.SandboxID, len(sandboxes))
	for i, s := range sandboxes {
		list[i] = s.ID
	}
	return list
}

// simple is the least that one asks for.
func simple() CreateRequest {
	return CreateRequest{Template: "base", Timeout: 5 * time.Minute, Internet: true}
}

func mustCreate(t *testing.T, s *Sandboxes, change ...func(*CreateRequest)) cube.Sandbox {
	t.Helper()
	req := simple()
	for _, c := range change {
		c(&req)
	}
	created, err := s.Create(t.Context(), req)
	if err != nil {
		t.Fatalf("creating: %v", err)
	}
	return created.Sandbox
}

func wantKind(t *testing.T, err error, want cube.Kind) {
	t.Helper()
	if err == nil || cube.KindOf(err) != want {
		t.Errorf("error = %v, want one of kind %v", err, want)
	}
}

// wantEnded checks that an error says that the sandbox ended, and how.
func wantEnded(t *testing.T, err error, want cube.EndReason) {
	t.Helper()
	wantKind(t, err, cube.NotFound)
	e, ok := errors.AsType[*cube.Error](err)
	if !ok || e.Ended == nil || e.Ended.Reason != want {
		t.Errorf("error = %#v, want one that carries the end %q", err, want)
	}
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

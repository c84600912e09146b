package gvisor

import (
	"context"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"cube"
	"cube/internal/testhost"
)

// sparePatience bounds the wait for one on a machine that has much to do.
const sparePatience = time.Minute

// withSpares opens an engine and starts what has it make spares.
func withSpares(t *testing.T, dir string, n int) *Engine {
	t.Helper()
	e, err := New(Config{DataDir: dir, Network: netip.MustParsePrefix("10.213.0.0/16"), Spares: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if left := testhost.Leftovers(dir); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	for range spareStarts {
		id := started(t, e)
		if err := e.Stop(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// awaitSpare returns one that waits.
func awaitSpare(t *testing.T, e *Engine) *spare {
	t.Helper()
	for deadline := time.Now().Add(sparePatience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		e.spares.mu.Lock()
		i := slices.IndexFunc(e.spares.list, isMade)
		var sp *spare
		if i >= 0 {
			sp = e.spares.list[i]
		}
		e.spares.mu.Unlock()
		if sp != nil {
			return sp
		}
	}
	t.Fatal("no spare was made")
	return nil
}

func TestASpareBecomesOneSandbox(t *testing.T) {
	e := withSpares(t, dataDir(t), 1)
	sp := awaitSpare(t, e)
	if list, err := e.List(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("listed is %v, %v, though nothing was started", list, err)
	}
	id := started(t, e)
	if r, ok := e.lookup(id); !ok || r.Sentry != sp.sentry {
		t.Fatalf("the sandbox runs as %v, %t, not as the spare's %v", r.Sentry, ok, sp.sentry)
	}
	if list, err := e.List(t.Context()); err != nil || len(list) != 1 || list[0].ID != id || !list[0].Running {
		t.Errorf("listed is %v, %v", list, err)
	}
	if out, err := shell(t.Context(), e, id, "echo kept > /tmp/file; cat /tmp/file"); err != nil || out != "kept\n" {
		t.Fatalf("%q, %v", out, err)
	}
	if _, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "kept", Memory: true}); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}

	sp = awaitSpare(t, e)
	initialised.Store(id, true)
	again := started(t, e, func(r *cube.StartRequest) { r.ID, r.Snapshot = id, "kept" })
	if r, _ := e.lookup(again); r.Sentry != sp.sentry {
		t.Errorf("the sandbox goes on as %v, not as the spare's %v", r.Sentry, sp.sentry)
	}
	if out, err := shell(t.Context(), e, again, "cat /tmp/file"); err != nil || out != "kept\n" {
		t.Errorf("%q, %v", out, err)
	}
	// What it is told is that of any other: it can be kept again.
	if _, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: again, Snapshot: "twice", Memory: true}); err != nil {
		t.Error(err)
	}
	other := awaitSpare(t, e)
	if other.sentry == sp.sentry {
		t.Error("a spare that has become a sandbox waits still")
	}
	for _, snapshot := range []cube.SnapshotID{"kept", "twice"} {
		if err := e.Discard(t.Context(), snapshot); err != nil {
			t.Error(err)
		}
	}
}

// The helper of a server that is gone reads the end of its input.
func TestASpareEndsWithItsServer(t *testing.T) {
	e := withSpares(t, dataDir(t), 1)
	sp := awaitSpare(t, e)
	sentry, err := findProcess(sp.sentry)
	if err != nil {
		t.Fatal(err)
	}
	defer sentry.close()
	if err := sp.helper.request.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), sparePatience)
	defer cancel()
	if err := sentry.wait(ctx); err != nil {
		t.Fatalf("the spare's kernel runs on: %v", err)
	}
	// It is noticed before anything would be made of it.
	started(t, e)
}

func TestProcessesMoveToAnotherGroup(t *testing.T) {
	e := open(t, dataDir(t))
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	from, to := cube.NewSandboxID(), cube.NewSandboxID()
	for _, id := range []cube.SandboxID{from, to} {
		if err := e.cgroups.create(id, testResources); err != nil {
			t.Fatal(err)
		}
	}
	var pids []int
	for range 3 {
		sleep := exec.Command("sleep", "1000")
		if err := sleep.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { _ = sleep.Wait() }()
		pids = append(pids, sleep.Process.Pid)
		if err := e.cgroups.add(from, sleep.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.cgroups.move(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	moved, err := e.cgroups.pids(to)
	slices.Sort(moved)
	slices.Sort(pids)
	if err != nil || !slices.Equal(moved, pids) {
		t.Errorf("there are %v, %v, not %v", moved, err, pids)
	}
	if groups, err := e.cgroups.list(); err != nil || !slices.Equal(groups, []cube.SandboxID{to}) {
		t.Errorf("groups %v, %v", groups, err)
	}
	if err := e.Stop(t.Context(), to); err != nil {
		t.Error(err)
	}
}

// A small network is not used up by what waits.
func TestSparesGiveTheirLinksBack(t *testing.T) {
	dir := dataDir(t)
	e, err := New(Config{DataDir: dir, Network: netip.MustParsePrefix("10.213.0.0/29"), Spares: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	one, two := started(t, e), started(t, e)
	if err := e.Stop(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	awaitSpare(t, e)
	larger := func(r *cube.StartRequest) { r.Resources.MemoryMB++ } // no spare is like it
	started(t, e, larger)
	if !e.running(two) {
		t.Error("the other sandbox ended for it")
	}
}

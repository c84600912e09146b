package fake

import (
	"context"
	"net"
	"net/http"
	"testing"

	"cube"
)

func checkpoint(t *testing.T, e *Engine, id cube.SandboxID, memory bool) cube.SnapshotID {
	t.Helper()
	snapshot := cube.NewSnapshotID()
	info, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: snapshot, Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != snapshot || info.Memory != memory || info.Bytes <= 0 {
		t.Errorf("snapshot = %+v", info)
	}
	return snapshot
}

func restore(t *testing.T, e *Engine, from cube.SnapshotID) cube.SandboxID {
	t.Helper()
	id := cube.NewSandboxID()
	if _, err := e.Start(t.Context(), cube.StartRequest{ID: id, Snapshot: from, Resources: resources}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop(context.Background(), id) })
	return id
}

func health(ctx context.Context, e *Engine, id cube.SandboxID) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return e.Dial(ctx, id, cube.AgentPort)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sandbox/health", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

func TestAFrozenSandboxAnswersOnceItIsThawed(t *testing.T) {
	e := &Engine{}
	id := start(t, e)
	checkpoint(t, e, id, true)
	if !e.Frozen(id) {
		t.Error("it is not frozen after a checkpoint")
	}
	answered := make(chan error)
	go func() { answered <- health(context.Background(), e, id) }()
	for range 2 {
		if err := e.Thaw(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-answered; err != nil {
		t.Errorf("its agent: %v", err)
	}
}

func TestAFailedCheckpointLeavesItRunning(t *testing.T) {
	full := cube.Errorf(cube.Exhausted, "the disk is full")
	e := &Engine{OnCheckpoint: func(context.Context, cube.CheckpointRequest) error { return full }}
	id := start(t, e)
	_, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "s1", Memory: true})
	if cube.KindOf(err) != cube.Exhausted || e.Frozen(id) {
		t.Errorf("error = %v, frozen: %v", err, e.Frozen(id))
	}
	if list, _ := e.Snapshots(t.Context()); len(list) != 0 {
		t.Errorf("snapshots = %v", list)
	}
}

func TestMemoryStaysOrIsNew(t *testing.T) {
	e := &Engine{}
	id := start(t, e)
	e.Write(id, "one")
	with := checkpoint(t, e, id, true)
	if err := e.Thaw(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	without := checkpoint(t, e, id, false)
	e.Write(id, "two")
	for from, same := range map[cube.SnapshotID]bool{with: true, without: false} {
		child := restore(t, e, from)
		if got := e.Boot(child) == e.Boot(id); got != same {
			t.Errorf("from %s: the same boot: %v, want %v", from, got, same)
		}
		if files := e.Files(child); len(files) != 1 || files[0] != "one" {
			t.Errorf("files = %q", files)
		}
	}
}

func TestASnapshotInUseIsNotDiscarded(t *testing.T) {
	e := &Engine{}
	id := start(t, e)
	snapshot := checkpoint(t, e, id, true)
	e.OnStart = func(ctx context.Context, _ cube.StartRequest) error {
		if err := e.Discard(ctx, snapshot); cube.KindOf(err) != cube.Conflict {
			t.Errorf("discarding while a sandbox starts from it: %v", err)
		}
		return nil
	}
	restore(t, e, snapshot)
	for range 2 {
		if err := e.Discard(t.Context(), snapshot); err != nil {
			t.Error(err)
		}
	}
	if list, _ := e.Snapshots(t.Context()); len(list) != 0 {
		t.Errorf("snapshots = %v", list)
	}
	if err := e.Discard(t.Context(), cube.BaseSnapshot); cube.KindOf(err) != cube.Invalid {
		t.Errorf("discarding the base: %v", err)
	}
}

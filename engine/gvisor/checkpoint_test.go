package gvisor

import (
	"strings"
	"testing"
	"time"

	"cube"
)

// TestASandboxRunsOnWhenItsHelperDies has a frozen sandbox whose next checkpoint
// ends before it can undo anything, as when the machine's memory is out.
func TestASandboxRunsOnWhenItsHelperDies(t *testing.T) {
	e := open(t, dataDir(t))
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	id := started(t, e)
	if !e.thawed(id) {
		t.Error("it is not known of a sandbox that was just started that it runs")
	}
	if _, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "first", Memory: true}); err != nil {
		t.Fatal(err)
	}
	if e.thawed(id) {
		t.Error("a frozen sandbox is taken for one that runs")
	}
	defer func(whole time.Duration) { checkpointTimeout = whole }(checkpointTimeout)
	checkpointTimeout = 1
	if _, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "second", Memory: true}); err == nil {
		t.Error("a checkpoint without any time succeeds")
	}
	if out, err := shell(t.Context(), e, id, "echo it runs"); err != nil || !strings.Contains(out, "it runs") {
		t.Errorf("it answers %q, %v", out, err)
	}
	if !e.thawed(id) {
		t.Error("it is not known of a sandbox that was thawed that it runs")
	}
	list, err := e.Snapshots(t.Context())
	if err != nil || len(list) != 1 {
		t.Errorf("the snapshots are %v, %v", list, err)
	}
	if err := e.Discard(t.Context(), "first"); err != nil {
		t.Error(err)
	}
}

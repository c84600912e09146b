package gvisor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cube"
	"cube/engine/gvisor/launch"
)

// Memory that is too large to be read before the sandbox runs is compared
// afterwards.
func TestASandboxThatRunsFromDamagedMemoryIsEnded(t *testing.T) {
	e := open(t, dataDir(t))
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	id := started(t, e)
	if out, err := shell(t.Context(), e, id, `cat > /tmp/large.py <<'END'
import os, time
held = os.urandom(80 << 20)
open("/tmp/held", "w").close()
time.sleep(1e6)
END
setsid python3 /tmp/large.py >/dev/null 2>&1 &
while [ ! -e /tmp/held ]; do sleep 0.02; done`); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "large", Memory: true}); err != nil {
		t.Fatal(err)
	}
	whole := started(t, e, func(r *cube.StartRequest) { r.Snapshot = "large" })

	pages := filepath.Join(e.snapshotsDir(), "large", "pages.img")
	file, err := os.OpenFile(pages, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() <= launch.Largest {
		t.Fatalf("the memory takes %d bytes, %v: too little for this test", info.Size(), err)
	}
	e.checking.Wait() // the first one has been compared
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, info.Size()-1); err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte{last[0] ^ 1}, info.Size()-1); err != nil {
		t.Fatal(err)
	}
	damaged := started(t, e, func(r *cube.StartRequest) { r.Snapshot = "large" })
	exit, err := e.Wait(t.Context(), damaged)
	if err != nil || !strings.Contains(exit.Detail, "damaged") {
		t.Errorf("exit %+v, %v, want one that says what is damaged", exit, err)
	}
	if !e.running(whole) {
		t.Error("the sandbox that was started before does not run")
	}
	if err := e.Discard(t.Context(), "large"); err != nil {
		t.Error(err)
	}
}

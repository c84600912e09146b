package gvisor

import (
	"bytes"
	"context"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cube"
	"cube/engine/gvisor/launch"
)

// openWith is open with more settings.
func openWith(t *testing.T, dir string, change func(*Config)) *Engine {
	t.Helper()
	cfg := Config{DataDir: dir, Network: netip.MustParsePrefix("10.213.0.0/16")}
	change(&cfg)
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func keyFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	oneKey   = strings.Repeat("1f", 32)
	otherKey = strings.Repeat("2e", 32)
)

// remembers runs a program that has a secret in its memory alone, half of which
// it is told, and tells the secret's other half when it is asked.
const remembers = `cat > /tmp/r.py <<'END'
import time, os
held = bytes(b ^ 0x55 for b in open("/tmp/in", "rb").read()) * 2000
os.unlink("/tmp/in")
open("/tmp/ready", "w").close()
while not os.path.exists("/tmp/ask"): time.sleep(0.02)
open("/tmp/answer", "wb").write(bytes(b ^ 0x55 for b in held[:32]))
os.rename("/tmp/answer", "/tmp/told")
time.sleep(1e6)
END
python3 -c 'open("/tmp/in","wb").write(bytes(b ^ 0x55 for b in b"the secret of the sandbox, whole"))'
setsid python3 /tmp/r.py >/dev/null 2>&1 &
while [ ! -e /tmp/ready ]; do sleep 0.02; done`

const askIt = `touch /tmp/ask; while [ ! -e /tmp/told ]; do sleep 0.02; done
python3 -c 'print(bytes(b ^ 0x55 for b in open("/tmp/told","rb").read()).decode())'`

// plainSecret is what the memory of such a program holds, and nothing else does.
var plainSecret = []byte("the secret of the sandbox, whole")

func find(t *testing.T, dir string, what []byte) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, what) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func mustShell(t *testing.T, e *Engine, id cube.SandboxID, script string) string {
	t.Helper()
	out, err := shell(t.Context(), e, id, script)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(out)
}

func keep(t *testing.T, e *Engine, id cube.SandboxID, as cube.SnapshotID) cube.SnapshotInfo {
	t.Helper()
	info, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: as, Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// continues starts a sandbox from a snapshot, to which the shell need not
// introduce itself.
func continues(t *testing.T, e *Engine, from cube.SnapshotID) cube.SandboxID {
	t.Helper()
	return started(t, e, func(r *cube.StartRequest) {
		r.Snapshot = from
		initialised.Store(r.ID, true)
	})
}

// wantEmptyStore checks that nothing is left of snapshots.
func wantEmptyStore(t *testing.T, e *Engine) {
	t.Helper()
	if s := e.packed.store.Stats(); s.Plain != 0 || s.Disk != 0 || s.Chunks != 0 {
		t.Errorf("the store holds %+v, want nothing", s)
	}
	if left := find(t, filepath.Join(e.cfg.DataDir, "chunks"), nil); len(left) > 0 && !strings.HasSuffix(left[0], "key.check") || len(left) > 1 {
		t.Errorf("left: %v", left)
	}
}

func TestAPackedSnapshotIsTheSandbox(t *testing.T) {
	dir := dataDir(t)
	e := openWith(t, dir, func(*Config) {})
	id := started(t, e)
	mustShell(t, e, id, remembers)
	plain := keep(t, e, id, "one")
	if found := find(t, filepath.Join(dir, "snapshots"), plainSecret); len(found) == 0 {
		t.Error("the secret is not in the snapshot: what is looked for below proves nothing")
	}
	keep(t, e, id, "two") // of the same: most of it is there already
	for _, snapshot := range []cube.SnapshotID{"one", "two"} {
		if bytes, err := e.pack(snapshot); err != nil || bytes == 0 {
			t.Fatalf("packing %s: %d bytes, %v", snapshot, bytes, err)
		}
		if _, err := os.Stat(filepath.Join(e.snapshotsDir(), string(snapshot), "pages.img")); !os.IsNotExist(err) {
			t.Errorf("its memory is there still: %v", err)
		}
	}
	stats := e.packed.store.Stats()
	t.Logf("two snapshots of %d bytes take %d", stats.Plain, stats.Disk)
	if stats.Disk >= plain.Bytes {
		t.Errorf("two snapshots take %d bytes, one unpacked %d", stats.Disk, plain.Bytes)
	}
	list, err := e.Snapshots(t.Context())
	if err != nil || len(list) != 2 || list[0].Bytes == 0 || list[0].Bytes >= plain.Bytes {
		t.Errorf("the snapshots are %+v, %v", list, err)
	}

	successor := openWith(t, dir, func(*Config) {})
	if got := successor.packed.store.Stats(); got != stats {
		t.Errorf("after a restart the store holds %+v, before %+v", got, stats)
	}
	for range 2 { // a fork
		child := continues(t, e, "one")
		if got := mustShell(t, e, child, askIt); got != string(plainSecret) {
			t.Errorf("it remembers %q", got)
		}
	}
	for _, snapshot := range []cube.SnapshotID{"one", "two"} {
		if err := e.Discard(t.Context(), snapshot); err != nil {
			t.Error(err)
		}
	}
	wantEmptyStore(t, e)
}

func TestWhatNobodyUsesIsPacked(t *testing.T) {
	e := openWith(t, dataDir(t), func(c *Config) { c.PackAfter = time.Millisecond })
	id := started(t, e)
	keep(t, e, id, "idle")
	dir := filepath.Join(e.snapshotsDir(), "idle")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "pages.img")); isPacked(dir) && os.IsNotExist(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not packed")
		}
	}
	if err := e.Discard(t.Context(), "idle"); err != nil {
		t.Error(err)
	}
	wantEmptyStore(t, e)
}

func TestWithAKeyNothingPlainReachesTheDisk(t *testing.T) {
	dir := dataDir(t)
	key := keyFile(t, oneKey)
	e := openWith(t, dir, func(c *Config) { c.SnapshotKeys = key })
	id := started(t, e)
	mustShell(t, e, id, remembers)
	info := keep(t, e, id, "sealed")
	if found := find(t, dir, plainSecret); len(found) > 0 {
		t.Errorf("the secret is in %v", found)
	}
	if info.Bytes == 0 {
		t.Error("the snapshot takes no bytes")
	}
	if err := e.Thaw(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := mustShell(t, e, id, askIt); got != string(plainSecret) {
		t.Errorf("the one that was kept remembers %q", got)
	}
	child := continues(t, e, "sealed")
	if got := mustShell(t, e, child, askIt); got != string(plainSecret) {
		t.Errorf("the one that was started remembers %q", got)
	}

	for name, keys := range map[string]string{"none": "", "another": keyFile(t, otherKey)} {
		if _, err := New(Config{DataDir: dir, Network: e.cfg.Network, SnapshotKeys: keys}); err == nil || !strings.Contains(err.Error(), "--snapshot-key-file") {
			t.Errorf("with the key %s: %v", name, err)
		}
	}
	// A new key, and the old one for what was kept before.
	both := openWith(t, dir, func(c *Config) { c.SnapshotKeys = keyFile(t, otherKey, oneKey) })
	keep(t, both, child, "newer")
	if err := both.Thaw(t.Context(), child); err != nil {
		t.Error(err)
	}
	if _, err := New(Config{DataDir: dir, Network: e.cfg.Network, SnapshotKeys: keyFile(t, otherKey)}); err == nil || !strings.Contains(err.Error(), "key") {
		t.Errorf("without the old key, which a snapshot needs: %v", err)
	}
	for _, snapshot := range []cube.SnapshotID{"sealed", "newer"} {
		continues(t, both, snapshot)
		if err := both.Discard(t.Context(), snapshot); err != nil {
			t.Error(err)
		}
	}
	wantEmptyStore(t, both)
}

func TestAFullDiskFailsTheSealedCheckpointAlone(t *testing.T) {
	dir := dataDir(t)
	e := openWith(t, dir, func(c *Config) { c.SnapshotKeys = keyFile(t, oneKey) })
	id := started(t, e)
	mustShell(t, e, id, "echo it runs")
	free := fillDisk(t, filepath.Join(dir, "chunks"))
	_, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "full", Memory: true})
	if cube.KindOf(err) != cube.Exhausted {
		t.Errorf("error %v, want one that says there is no room", err)
	}
	if got := mustShell(t, e, id, "echo it runs"); got != "it runs" {
		t.Errorf("it answers %q", got)
	}
	if s := e.packed.store.Stats(); s.Chunks != 0 {
		t.Errorf("the store holds %+v", s)
	}
	free()
	keep(t, e, id, "full")
	if err := e.Discard(t.Context(), "full"); err != nil {
		t.Error(err)
	}
}

func TestTooLittleMemoryFailsTheSealedCheckpointAlone(t *testing.T) {
	var free atomic.Int64
	e := openWith(t, dataDir(t), func(c *Config) { c.SnapshotKeys, c.FreeMemory = keyFile(t, oneKey), free.Load })
	id := started(t, e)
	_, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "kept", Memory: true})
	if cube.KindOf(err) != cube.Exhausted {
		t.Errorf("keeping: %v, want that there is too little memory", err)
	}
	if got := mustShell(t, e, id, "echo it runs"); got != "it runs" {
		t.Errorf("it answers %q", got)
	}
	free.Store(1 << 40)
	keep(t, e, id, "kept")
	free.Store(0)
	request := cube.StartRequest{ID: cube.NewSandboxID(), Snapshot: "kept", Resources: testResources}
	if _, err := e.Start(t.Context(), request); cube.KindOf(err) != cube.Exhausted {
		t.Errorf("starting: %v, want that there is too little memory", err)
	}
	free.Store(1 << 40)
	continues(t, e, "kept")
	if err := e.Discard(t.Context(), "kept"); err != nil {
		t.Error(err)
	}
}

func TestADamagedChunkStartsNothing(t *testing.T) {
	dir := dataDir(t)
	e := openWith(t, dir, func(c *Config) { c.SnapshotKeys = keyFile(t, oneKey) })
	id := started(t, e)
	keep(t, e, id, "damaged")
	list, err := e.readList(filepath.Join(e.snapshotsDir(), "damaged"), "damaged")
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(path string, whole []byte) error{
		"a byte": func(path string, whole []byte) error {
			return os.WriteFile(path, append(whole[:len(whole)-1:len(whole)-1], ^whole[len(whole)-1]), 0o600)
		},
		"cut":     func(path string, whole []byte) error { return os.Truncate(path, int64(len(whole)/2)) },
		"empty":   func(path string, _ []byte) error { return os.Truncate(path, 0) },
		"removed": func(path string, _ []byte) error { return os.Remove(path) },
	} {
		for i, f := range list.Files {
			n := f.Chunks[len(f.Chunks)/2].Name.String()
			path := filepath.Join(dir, "chunks", n[:2], n)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(path, whole); err != nil {
				t.Fatal(err)
			}
			_, err = e.Start(t.Context(), cube.StartRequest{ID: cube.NewSandboxID(), Snapshot: "damaged", Resources: testResources})
			if err == nil || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("file %d, %s: %v", i, name, err)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if sandboxes, err := e.List(context.Background()); err != nil || len(sandboxes) != 1 {
		t.Errorf("there are %v, %v, want one sandbox", sandboxes, err)
	}
	continues(t, e, "damaged")
	if err := os.WriteFile(filepath.Join(e.snapshotsDir(), "damaged", listFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), cube.StartRequest{ID: cube.NewSandboxID(), Snapshot: "damaged", Resources: testResources}); err == nil {
		t.Error("a damaged list starts something")
	}
	if err := e.Discard(t.Context(), "damaged"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(e.snapshotsDir(), "damaged", launch.ManifestFile)); !os.IsNotExist(err) {
		t.Errorf("it is there still: %v", err)
	}
}

// Files alone are packed and encrypted as memory is.
func TestFilesAloneArePackedToo(t *testing.T) {
	e := openWith(t, dataDir(t), func(c *Config) { c.SnapshotKeys = keyFile(t, oneKey) })
	id := started(t, e)
	mustShell(t, e, id, "seq 100000 > /root/numbers; mkdir /root/empty; rm -rf /etc/hostname")
	want := mustShell(t, e, id, "md5sum < /root/numbers; ls -a /root /etc | sort -u")
	if _, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "files"}); err != nil {
		t.Fatal(err)
	}
	again := started(t, e, func(r *cube.StartRequest) { r.Snapshot = "files" })
	if got := mustShell(t, e, again, "md5sum < /root/numbers; ls -a /root /etc | sort -u"); got != want {
		t.Errorf("its files are\n%s\nwant\n%s", got, want)
	}
	if err := e.Discard(t.Context(), "files"); err != nil {
		t.Error(err)
	}
	wantEmptyStore(t, e)
}

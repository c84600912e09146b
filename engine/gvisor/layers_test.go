package gvisor

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"cube"
	"cube/engine/gvisor/launch"
)

// opened is an engine of the test's own, which must have nothing left at its end.
func opened(t *testing.T) *Engine {
	t.Helper()
	e := open(t, dataDir(t))
	t.Cleanup(func() {
		if left := layersOf(t, e); len(left) > 0 {
			t.Errorf("layers are left: %v", left)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// layersOf lists what there is of layers.
func layersOf(t *testing.T, e *Engine) []string {
	t.Helper()
	entries, err := os.ReadDir(e.layersDir())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// layerOf is a layer of one file, and the name that it is kept by.
func layerOf(t *testing.T, name string, content []byte) (cube.ImageLayer, string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	hash := hex.EncodeToString(sum[:])
	return cube.ImageLayer{DiffID: "sha256:" + hash, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}}, "sha256-" + hash
}

func add(t *testing.T, e *Engine, layers ...cube.ImageLayer) cube.SnapshotID {
	t.Helper()
	id := cube.NewSnapshotID()
	if _, err := e.AddImage(t.Context(), cube.ImageRequest{Snapshot: id, Layers: layers}); err != nil {
		t.Fatal(err)
	}
	return id
}

// A layer that somebody else brought is given to nobody who only knows its hash.
func TestALayerThatIsThereMustBeProved(t *testing.T) {
	e := opened(t)
	secret, _ := layerOf(t, "secret", []byte("of another"))
	other, _ := layerOf(t, "other", nil)
	first := add(t, e, secret)
	claimed := cube.ImageLayer{DiffID: secret.DiffID, Open: other.Open}
	_, err := e.AddImage(t.Context(), cube.ImageRequest{Snapshot: "claimed", Layers: []cube.ImageLayer{claimed}, Prove: true})
	if cube.KindOf(err) != cube.Invalid {
		t.Errorf("claimed by its hash: %v", err)
	}
	if _, err := e.AddImage(t.Context(), cube.ImageRequest{Snapshot: "proved", Layers: []cube.ImageLayer{secret}, Prove: true}); err != nil {
		t.Error(err)
	}
	discard(t, e, first)
	discard(t, e, "proved")
}

func discard(t *testing.T, e *Engine, id cube.SnapshotID) {
	t.Helper()
	if err := e.Discard(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func TestWhatAKilledServerLeavesOfLayersGoesWithTheNext(t *testing.T) {
	e := opened(t)
	layer, name := layerOf(t, "a", nil)
	image := add(t, e, layer)
	for _, left := range []string{".tmp-half", "own-half", "sha256-" + strings.Repeat("0", 64)} {
		if err := os.MkdirAll(filepath.Join(e.layersDir(), left, "dir"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(e.snapshotsDir(), tmpPrefix+"half"), 0o700); err != nil {
		t.Fatal(err)
	}
	successor := open(t, e.cfg.DataDir)
	if got := layersOf(t, successor); !slices.Equal(got, []string{name}) {
		t.Errorf("there is %v, not %v", got, name)
	}
	id := started(t, successor, func(r *cube.StartRequest) { r.Snapshot = image })
	discard(t, successor, image)
	if got := layersOf(t, successor); !slices.Equal(got, []string{name}) {
		t.Errorf("below a sandbox that runs there is %v", got)
	}
	third := open(t, e.cfg.DataDir)
	if got := layersOf(t, third); !slices.Equal(got, []string{name}) {
		t.Errorf("below a sandbox that runs there is %v for another server", got)
	}
	if err := third.Stop(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func TestNoLayerIsRemovedThatADamagedManifestMayName(t *testing.T) {
	e := opened(t)
	layer, name := layerOf(t, "a", nil)
	image := add(t, e, layer)
	manifest := filepath.Join(e.snapshotsDir(), string(image), launch.ManifestFile)
	whole, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, whole[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	successor := open(t, e.cfg.DataDir)
	if got := layersOf(t, successor); !slices.Equal(got, []string{name}) {
		t.Errorf("there is %v, not %v", got, name)
	}
	if err := os.WriteFile(manifest, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	started(t, successor, func(r *cube.StartRequest) { r.Snapshot = image })
	discard(t, successor, image)
}

func TestLayersThatComeAndGoAtOnceAreThereForWhoNeedsThem(t *testing.T) {
	e := opened(t)
	shared, _ := layerOf(t, "srv/shared", bytes.Repeat([]byte("x"), 100_000))
	var group sync.WaitGroup
	for i := range 4 {
		own, _ := layerOf(t, fmt.Sprintf("srv/%d", i), nil)
		group.Go(func() {
			for range 5 {
				image := cube.NewSnapshotID()
				if _, err := e.AddImage(t.Context(), cube.ImageRequest{Snapshot: image, Layers: []cube.ImageLayer{shared, own}}); err != nil {
					t.Errorf("adding: %v", err)
					return
				}
				id := cube.NewSandboxID()
				_, err := e.Start(t.Context(), cube.StartRequest{ID: id, Snapshot: image, Resources: testResources})
				discard(t, e, image)
				if err != nil {
					t.Errorf("starting: %v", err)
					return
				}
				kept := cube.NewSnapshotID()
				if _, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: kept, Layer: true}); err != nil {
					t.Errorf("keeping: %v", err)
				}
				if err := e.Stop(t.Context(), id); err != nil {
					t.Errorf("stopping: %v", err)
				}
				if _, err := e.Start(t.Context(), cube.StartRequest{ID: id, Snapshot: kept, Resources: testResources}); err != nil {
					t.Errorf("starting from what was kept: %v", err)
				}
				discard(t, e, kept)
				if err := e.Stop(t.Context(), id); err != nil {
					t.Errorf("stopping: %v", err)
				}
			}
		})
	}
	group.Wait()
}

func TestALayerForWhichThereIsNoRoom(t *testing.T) {
	e := opened(t)
	id := started(t, e)
	if out, err := shell(t.Context(), e, id, "yes | head -c 1000000 > /srv/large"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	large, _ := layerOf(t, "large", bytes.Repeat([]byte("x"), 1_000_000))
	free := fillDisk(t, e.layersDir())
	_, err := e.AddImage(t.Context(), cube.ImageRequest{Snapshot: "image", Layers: []cube.ImageLayer{large}})
	if cube.KindOf(err) != cube.Exhausted {
		t.Errorf("an image: %v", err)
	}
	_, err = e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "kept", Layer: true})
	if cube.KindOf(err) != cube.Exhausted {
		t.Errorf("a layer: %v", err)
	}
	free()
	if out, err := shell(t.Context(), e, id, "echo it runs"); err != nil || !strings.Contains(out, "it runs") {
		t.Errorf("it answers %q, %v", out, err)
	}
	if list, err := e.Snapshots(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("the snapshots are %v, %v", list, err)
	}
	if _, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "kept", Layer: true}); err != nil {
		t.Error(err)
	}
	discard(t, e, "kept")
}

// TestWhereLayersCannotBeTheServerSaysSo has the data on overlayfs, as in a
// container.
func TestWhereLayersCannotBeTheServerSaysSo(t *testing.T) {
	parts := dataDir(t)
	for _, part := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(parts, part), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(parts, "merged")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", parts)
	if err := syscall.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skipf("overlayfs cannot be written here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(merged, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	e := open(t, merged)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	layer, _ := layerOf(t, "a", nil)
	_, err := e.AddImage(t.Context(), cube.ImageRequest{Snapshot: "image", Layers: []cube.ImageLayer{layer}})
	if cube.KindOf(err) != cube.Unsupported || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("an image: %v", err)
	}
	id := started(t, e) // the base is there
	_, err = e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "kept", Layer: true})
	if cube.KindOf(err) != cube.Unsupported {
		t.Errorf("a layer: %v", err)
	}
	if out, err := shell(t.Context(), e, id, "echo it runs"); err != nil || !strings.Contains(out, "it runs") {
		t.Errorf("it answers %q, %v", out, err)
	}
}

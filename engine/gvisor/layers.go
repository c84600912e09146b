package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
	"cube/image/layer"
)

// Layers stand below images/layers/, each in a directory that is named for it,
// written under another name and never changed. Those of images are named for
// their content and shared; those that sandboxes wrote, for their snapshot. One is
// needed as long as a manifest or a running sandbox names it.

// layers are those that must stay though nothing on the disk names them yet.
type layers struct {
	mu   sync.Mutex // guards what follows; taken before Engine.mu
	held map[string]int
	// late is whether the last sweep left some for the sake of sandboxes alone.
	late bool
	busy map[string]chan struct{} // being unpacked; closed when that is over
}

// maxLayers is how many overlayfs takes, less some to build on.
const maxLayers = 400

var diffIDPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (e *Engine) layersDir() string { return filepath.Join(e.imagesDir(), "layers") }

// locate gives a root's layers their places on this machine.
func (e *Engine) locate(root launch.Root) launch.Root {
	located := make([]string, len(root.Layers))
	for i, name := range root.Layers {
		located[i] = filepath.Join(e.layersDir(), filepath.Base(name))
	}
	root.Layers = located
	return root
}

// hold keeps layers from being swept until release.
func (e *Engine) hold(names ...string) (release func()) {
	e.layers.mu.Lock()
	defer e.layers.mu.Unlock()
	if e.layers.held == nil {
		e.layers.held, e.layers.busy = map[string]int{}, map[string]chan struct{}{}
	}
	for _, name := range names {
		e.layers.held[name]++
	}
	return sync.OnceFunc(func() {
		e.layers.mu.Lock()
		defer e.layers.mu.Unlock()
		for _, name := range names {
			if e.layers.held[name]--; e.layers.held[name] == 0 {
				delete(e.layers.held, name)
			}
		}
	})
}

// openLayers removes what an earlier server has left half-unpacked or unneeded.
func (e *Engine) openLayers() error {
	if err := os.MkdirAll(e.layersDir(), 0o700); err != nil {
		return fmt.Errorf("making the layers' directory: %w", err)
	}
	return e.sweepLayers()
}

// sweepLayers removes the layers that nothing needs.
func (e *Engine) sweepLayers() error {
	e.layers.mu.Lock()
	defer e.layers.mu.Unlock()
	// First what there is: what comes later is held by who brings it.
	entries, err := os.ReadDir(e.layersDir())
	if err != nil {
		return fmt.Errorf("listing the layers: %w", err)
	}
	if len(entries) == 0 {
		return nil
	}
	running := e.layersOfSandboxes() // before the manifests: a start goes from those to these
	kept, err := e.layersOfSnapshots()
	if err != nil {
		return err
	}
	for name := range e.layersOfSandboxes() {
		running[name] = true
	}
	e.layers.late = false
	for _, entry := range entries {
		switch name := entry.Name(); {
		case kept[name] || e.layers.held[name] > 0:
		case running[name]:
			e.layers.late = true
		default:
			err = errors.Join(err, layer.Remove(filepath.Join(e.layersDir(), name)))
		}
	}
	return err
}

// sweepLate sweeps when a sandbox is gone, if one may have been the last that
// needed a layer.
func (e *Engine) sweepLate() error {
	e.layers.mu.Lock()
	late := e.layers.late
	e.layers.mu.Unlock()
	if !late {
		return nil
	}
	return e.sweepLayers()
}

// layersOfSandboxes are those that a sandbox stands on.
func (e *Engine) layersOfSandboxes() map[string]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	needed := map[string]bool{}
	for _, s := range e.sandboxes {
		if s.Origin != nil {
			addLayers(needed, *s.Origin)
		}
	}
	return needed
}

func addLayers(to map[string]bool, root launch.Root) {
	for _, name := range root.Layers {
		to[filepath.Base(name)] = true
	}
}

// layersOfSnapshots are those that a manifest names.
func (e *Engine) layersOfSnapshots() (map[string]bool, error) {
	needed := map[string]bool{}
	snapshots, err := os.ReadDir(e.snapshotsDir())
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots: %w", err)
	}
	for _, entry := range snapshots {
		if strings.HasPrefix(entry.Name(), tmpPrefix) {
			continue
		}
		m, err := launch.ReadManifest(filepath.Join(e.snapshotsDir(), entry.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist): // discarded in the meantime
		case err != nil:
			return nil, fmt.Errorf("no layer is removed, as the snapshot %s cannot be read: %w", entry.Name(), err)
		default:
			addLayers(needed, m.Root)
		}
	}
	return needed, nil
}

// addLayer unpacks a layer of an image, unless it is there, and returns how many
// bytes it has brought. Its name is held.
func (e *Engine) addLayer(ctx context.Context, name string, l cube.ImageLayer) (int64, error) {
	final := filepath.Join(e.layersDir(), name)
	for {
		e.layers.mu.Lock()
		other, busy := e.layers.busy[name]
		if !busy {
			e.layers.busy[name] = make(chan struct{})
		}
		e.layers.mu.Unlock()
		if !busy {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	defer func() {
		e.layers.mu.Lock()
		defer e.layers.mu.Unlock()
		close(e.layers.busy[name])
		delete(e.layers.busy, name)
	}()
	if _, err := os.Stat(final); err == nil {
		return 0, nil
	}
	content, err := l.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer content.Close()
	// A read that waits ends with ctx.
	stop := context.AfterFunc(ctx, func() { _ = content.Close() })
	defer stop()
	size, err := e.unpackLayer(content, final, l.DiffID)
	if err != nil && ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return size.Bytes, err
}

// unpackLayer unpacks a tar file to its place, whole or not at all.
func (e *Engine) unpackLayer(content readerOnly, final, diffID string) (layer.Size, error) {
	tmpName := tmpPrefix + string(cube.NewSandboxID())
	defer e.hold(tmpName)()
	tmp := filepath.Join(e.layersDir(), tmpName)
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return layer.Size{}, err
	}
	size, err := layer.Unpack(content, tmp, diffID, layer.Limits{})
	if err == nil {
		err = os.Rename(tmp, final)
	}
	if err == nil {
		return size, syncDir(e.layersDir())
	}
	err = errors.Join(layerError(err), layer.Remove(tmp))
	return size, err
}

type readerOnly interface{ Read([]byte) (int, error) }

// layerError gives an error its kind.
func layerError(err error) error {
	if e, theirs := errors.AsType[*layer.Error](err); theirs {
		return cube.WrapError(cube.Invalid, err, "The image cannot be used: %s", e.Message)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return cube.WrapError(cube.Exhausted, err, "there is no room on the disk for the image: remove templates, snapshots or sandboxes that are not needed")
	}
	return err
}

// syncDir waits until the names in a directory are on the disk.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

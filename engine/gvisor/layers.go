package gvisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
	"cube/image/layer"
)

// Layers stand below images/layers/, each in a directory that is named for it,
// written under another name, on the disk before a manifest names it, and never
// changed. Those of images are named for
// their content and shared; those that sandboxes wrote, for their snapshot. One is
// needed as long as a manifest or a running sandbox names it.

// layers is what the engine remembers of them.
type layers struct {
	mu sync.Mutex // guards what follows; taken before Engine.mu
	// held are those that must stay though nothing on the disk names them yet.
	held map[string]int
	// unsupported is why there can be none; written before the engine is used.
	unsupported error
	// named are those of each snapshot, whose manifest never changes.
	named map[string][]string
	// late is whether the last sweep left some for the sake of sandboxes alone.
	late bool
	busy map[string]chan struct{} // being unpacked; closed when that is over
}

// maxLayers is how many overlayfs takes, less some to build on.
const maxLayers = 400

var diffIDPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (e *Engine) layersDir() string { return filepath.Join(e.imagesDir(), "layers") }

// locate gives a root's directories their places on this machine.
func (e *Engine) locate(root launch.Root) launch.Root {
	located := make([]string, len(root.Layers))
	for i, name := range root.Layers {
		located[i] = filepath.Join(e.layersDir(), filepath.Base(name))
	}
	root.Dir, root.Layers = filepath.Join(e.imagesDir(), filepath.Base(root.Dir)), located
	return root
}

// renew gives layers what is ours in a root as it is now: this version's agent,
// and for a base this machine as it is.
func (e *Engine) renew(root launch.Root) launch.Root {
	now := launchRoot(e.roots[cube.BaseSnapshot])
	if root.Top {
		now = launchRoot(e.top)
	}
	now.Layers = root.Layers
	now.Masked = slices.Concat(now.Masked, root.Masked)
	return now
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
	e.sweepLayers()
	if err := layer.Check(e.layersDir()); err != nil {
		e.layers.unsupported = cube.WrapError(cube.Unsupported, err, "templates need a data directory on a file system that keeps the marks of layers, such as ext4 or XFS: start the server with --data-dir on one; in a container, on a volume")
	}
	return nil
}

// sweepLayers removes the layers that nothing needs. What cannot be removed is
// tried again with the next.
func (e *Engine) sweepLayers() {
	gone, spares, err := e.unneededLayers()
	for _, dir := range gone {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if len(spares) > 0 {
		e.dropSpares(e.closing, spares...) // the last of them sweeps again
	}
	if err != nil {
		e.cfg.Log.Warn("layers that nothing needs could not be removed", "error", err)
	}
}

// unneededLayers gives those that nothing needs other names, so that they are away
// at once, and returns where they are, and the spares that alone need others.
func (e *Engine) unneededLayers() (gone []string, spares []cube.SandboxID, err error) {
	e.layers.mu.Lock()
	defer e.layers.mu.Unlock()
	// First what there is: what comes later is held by who brings it.
	entries, err := os.ReadDir(e.layersDir())
	if err != nil {
		return nil, nil, fmt.Errorf("listing the layers: %w", err)
	}
	if len(entries) == 0 {
		return nil, nil, nil
	}
	running, ofSpares := e.layersOfSandboxes() // before the manifests: a checkpoint goes from those to these
	kept, err := e.layersOfSnapshots()
	if err != nil {
		return nil, nil, err
	}
	later, ofSparesLater := e.layersOfSandboxes() // and after them: a start goes the other way
	maps.Copy(running, later)
	maps.Copy(ofSpares, ofSparesLater)
	e.layers.late = false
	for _, entry := range entries {
		name := entry.Name()
		path := filepath.Join(e.layersDir(), name)
		switch {
		case kept[name] || e.layers.held[name] > 0:
		case running[name]:
			e.layers.late = true
		case len(ofSpares[name]) > 0:
			e.layers.late = true
			spares = append(spares, ofSpares[name]...)
		case strings.HasPrefix(name, tmpPrefix):
			gone = append(gone, path)
		default:
			tmp := filepath.Join(e.layersDir(), tmpPrefix+string(cube.NewSandboxID()))
			if err := os.Rename(path, tmp); err != nil {
				return gone, spares, err
			}
			gone = append(gone, tmp)
		}
	}
	return gone, spares, nil
}

// sweepLate sweeps when a sandbox is gone, if one may have been the last that
// needed a layer.
func (e *Engine) sweepLate() {
	e.layers.mu.Lock()
	late := e.layers.late
	e.layers.mu.Unlock()
	if late {
		e.sweepLayers()
	}
}

// layersOfSandboxes are those that a sandbox stands on, and by name the spares
// that do.
func (e *Engine) layersOfSandboxes() (needed map[string]bool, ofSpares map[string][]cube.SandboxID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	needed, ofSpares = map[string]bool{}, map[string][]cube.SandboxID{}
	for id, s := range e.sandboxes {
		if s.Origin == nil {
			continue
		}
		spare := e.spares.has(id)
		for _, dir := range s.Origin.Layers {
			if name := filepath.Base(dir); spare {
				ofSpares[name] = append(ofSpares[name], id)
			} else {
				needed[name] = true
			}
		}
	}
	return needed, ofSpares
}

// layersOfSnapshots are those that a manifest names. layers.mu is held.
func (e *Engine) layersOfSnapshots() (map[string]bool, error) {
	snapshots, err := os.ReadDir(e.snapshotsDir())
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots: %w", err)
	}
	needed, named := map[string]bool{}, map[string][]string{}
	for _, entry := range snapshots {
		id := entry.Name()
		if strings.HasPrefix(id, tmpPrefix) {
			continue
		}
		list, known := e.layers.named[id]
		if !known {
			m, err := launch.ReadManifest(filepath.Join(e.snapshotsDir(), id))
			if errors.Is(err, fs.ErrNotExist) {
				continue // discarded in the meantime
			}
			if err != nil {
				return nil, fmt.Errorf("none is removed as long as the snapshot %s is there, whose manifest may name it and cannot be read: %w", id, err)
			}
			list = m.Root.Layers
		}
		named[id] = list
		for _, name := range list {
			needed[filepath.Base(name)] = true
		}
	}
	e.layers.named = named
	return needed, nil
}

// addLayer unpacks a layer of an image, unless it is there, and returns how many
// bytes it has brought. Its name is held.
func (e *Engine) addLayer(ctx context.Context, name string, l cube.ImageLayer, prove bool) (int64, error) {
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
	_, err := os.Stat(final)
	there := err == nil
	if there && !prove {
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
	if there {
		return 0, cmp.Or(ctx.Err(), layerError(layer.Prove(content, l.DiffID)))
	}
	size, err := e.unpackLayer(final, func(dir string) (layer.Size, error) {
		return layer.Unpack(content, dir, l.DiffID, layer.Limits{})
	})
	if err != nil && ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return size.Bytes, err
}

// unpackLayer has a layer unpacked to its place, whole or not at all.
func (e *Engine) unpackLayer(final string, unpack func(dir string) (layer.Size, error)) (layer.Size, error) {
	tmpName := tmpPrefix + string(cube.NewSandboxID())
	defer e.hold(tmpName)()
	tmp := filepath.Join(e.layersDir(), tmpName)
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return layer.Size{}, err
	}
	size, err := unpack(tmp)
	if err == nil {
		err = os.Rename(tmp, final)
	}
	if err != nil {
		err = errors.Join(layerError(err), os.RemoveAll(tmp))
	}
	return size, err
}

// layerError gives an error its kind.
func layerError(err error) error {
	if e, theirs := errors.AsType[*layer.Error](err); theirs {
		return cube.WrapError(cube.Invalid, err, "The image cannot be used: %s", e.Message)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return cube.WrapError(cube.Exhausted, err, "there is no room on the disk for another layer: remove templates, snapshots or sandboxes that are not needed")
	}
	return err
}

// syncfs waits until all of the file system is on the disk that dir is on.
func syncfs(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.Syncfs(int(file.Fd()))
}

// syncDir waits until the names in a directory are on the disk.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

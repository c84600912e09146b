package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cube"
	"cube/engine/gvisor/launch"
)

// AddImage implements cube.Engine.
func (e *Engine) AddImage(ctx context.Context, req cube.ImageRequest) (cube.SnapshotInfo, error) {
	final, err := e.snapshotDir(req.Snapshot)
	if err := errors.Join(err, e.layers.unsupported); err != nil {
		return cube.SnapshotInfo{}, err
	}
	if len(req.Layers) > maxLayers {
		return cube.SnapshotInfo{}, cube.Errorf(cube.Invalid, "The image has %d layers: %d are the most", len(req.Layers), maxLayers)
	}
	names := make([]string, len(req.Layers))
	for i, l := range req.Layers {
		if !diffIDPattern.MatchString(l.DiffID) {
			return cube.SnapshotInfo{}, cube.Errorf(cube.Invalid, "The image cannot be used: %.80q names no layer", l.DiffID)
		}
		names[i] = strings.Replace(l.DiffID, ":", "-", 1)
	}
	if err := e.reserveSnapshot(req.Snapshot, final); err != nil {
		return cube.SnapshotInfo{}, err
	}
	defer e.unreserveSnapshot(req.Snapshot)
	release := e.hold(names...)
	defer release()

	m := launch.Manifest{Layers: true, Root: launchRoot(e.top)}
	for i, l := range req.Layers {
		added, err := e.addLayer(ctx, names[i], l, req.Prove)
		if err != nil {
			release()
			e.sweepLayers()
			return cube.SnapshotInfo{}, err
		}
		m.Added += added
		// A layer that is there twice, as empty ones are, counts where it is last.
		m.Root.Layers = slices.DeleteFunc(m.Root.Layers, func(n string) bool { return n == names[i] })
		m.Root.Layers = append(m.Root.Layers, names[i])
	}
	return e.writeLayersManifest(req.Snapshot, final, m)
}

// writeLayersManifest makes a snapshot that is its root alone, once the layers are
// on the disk. Those that no manifest names need not be: they go at the next start.
func (e *Engine) writeLayersManifest(id cube.SnapshotID, final string, m launch.Manifest) (cube.SnapshotInfo, error) {
	tmp := filepath.Join(e.snapshotsDir(), tmpPrefix+string(id))
	err := errors.Join(os.RemoveAll(tmp), syncfs(e.layersDir()))
	if err == nil {
		err = os.Mkdir(tmp, 0o700)
	}
	if err == nil {
		err = m.Write(tmp)
	}
	if err == nil {
		err = syncDir(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, final)
	}
	if err == nil {
		if err = syncDir(e.snapshotsDir()); err != nil {
			err = errors.Join(err, os.RemoveAll(final))
		}
	}
	if err != nil {
		return cube.SnapshotInfo{}, errors.Join(layerError(fmt.Errorf("writing the snapshot %s: %w", id, err)), os.RemoveAll(tmp))
	}
	return cube.SnapshotInfo{ID: id, Bytes: m.Bytes()}, nil
}

// keepLayer keeps what a sandbox has written as one more layer; its freezing is
// held, and the snapshot's name reserved.
func (e *Engine) keepLayer(ctx context.Context, req cube.CheckpointRequest, r record, final string) (cube.SnapshotInfo, error) {
	if req.Memory {
		return cube.SnapshotInfo{}, cube.Errorf(cube.Invalid, "a layer holds no memory")
	}
	if e.layers.unsupported != nil {
		return cube.SnapshotInfo{}, e.layers.unsupported
	}
	if len(r.Origin.Layers) >= maxLayers {
		return cube.SnapshotInfo{}, cube.Errorf(cube.Invalid, "the sandbox stands on %d layers already, and more there cannot be", len(r.Origin.Layers))
	}
	own := "own-" + string(req.Snapshot)
	release := e.hold(own)
	defer release()
	size, err := e.readUpper(ctx, req.Sandbox, r, filepath.Join(e.layersDir(), own))
	if err == nil {
		err = e.checkLayer(own, *r.Origin)
	}
	var info cube.SnapshotInfo
	if err == nil {
		m := launch.Manifest{Layers: true, Added: size, Root: *r.Origin, Resources: launchResources(r.Resources)}
		m.Root.Dir = filepath.Base(m.Root.Dir)
		m.Root.Layers = nil
		for _, dir := range r.Origin.Layers {
			m.Root.Layers = append(m.Root.Layers, filepath.Base(dir))
		}
		m.Root.Layers = append(m.Root.Layers, own)
		info, err = e.writeLayersManifest(req.Snapshot, final, m)
	}
	if err == nil {
		return info, nil
	}
	release()
	e.sweepLayers()
	if !e.running(req.Sandbox) {
		return cube.SnapshotInfo{}, notRunning(req.Sandbox)
	}
	return cube.SnapshotInfo{}, errors.Join(err, e.thaw(req.Sandbox))
}

// checkLayer refuses a layer that has put something else in the place of what
// the root binds from this machine: it could not be mounted.
func (e *Engine) checkLayer(name string, root launch.Root) error {
	for _, b := range root.Binds {
		path := filepath.Join(e.layersDir(), name)
		for _, part := range strings.Split(b.Target, "/") {
			path = filepath.Join(path, part)
			info, err := os.Lstat(path)
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err != nil {
				return err
			}
			if !info.IsDir() {
				return cube.Errorf(cube.Unsupported, "the sandbox has replaced /%s, which the base shares with this machine: build over an image instead", b.Target)
			}
		}
	}
	return nil
}

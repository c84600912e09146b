package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cube"
	"cube/engine/gvisor/launch"
)

// AddImage implements cube.Engine.
func (e *Engine) AddImage(ctx context.Context, req cube.ImageRequest) (cube.SnapshotInfo, error) {
	final, err := e.snapshotDir(req.Snapshot)
	if err != nil {
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
	seen := map[string]bool{}
	for i, l := range req.Layers {
		added, err := e.addLayer(ctx, names[i], l)
		if err != nil {
			release()
			return cube.SnapshotInfo{}, errors.Join(err, e.sweepLayers())
		}
		m.Added += added
		// A layer that is there twice, as empty ones are, counts where it is last.
		if seen[names[i]] {
			m.Root.Layers = without(m.Root.Layers, names[i])
		}
		seen[names[i]] = true
		m.Root.Layers = append(m.Root.Layers, names[i])
	}
	return e.writeLayersManifest(req.Snapshot, final, m)
}

func without(list []string, name string) []string {
	var rest []string
	for _, n := range list {
		if n != name {
			rest = append(rest, n)
		}
	}
	return rest
}

// writeLayersManifest makes a snapshot that is its root alone.
func (e *Engine) writeLayersManifest(id cube.SnapshotID, final string, m launch.Manifest) (cube.SnapshotInfo, error) {
	tmp := filepath.Join(e.snapshotsDir(), tmpPrefix+string(id))
	err := os.RemoveAll(tmp)
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
		err = syncDir(e.snapshotsDir())
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
	if len(r.Origin.Layers) >= maxLayers {
		return cube.SnapshotInfo{}, cube.Errorf(cube.Invalid, "the sandbox stands on %d layers already, and more there cannot be", len(r.Origin.Layers))
	}
	own := "own-" + string(req.Snapshot)
	release := e.hold(own)
	defer release()
	size, err := e.readUpper(ctx, req.Sandbox, filepath.Join(e.layersDir(), own))
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
	if !e.running(req.Sandbox) {
		return cube.SnapshotInfo{}, notRunning(req.Sandbox)
	}
	return cube.SnapshotInfo{}, errors.Join(err, e.thaw(req.Sandbox), e.sweepLayers())
}

// readUpper freezes a sandbox and unpacks what it has written as a layer.
func (e *Engine) readUpper(ctx context.Context, id cube.SandboxID, final string) (int64, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	// A checkpoint that is given up ends the unpacking, and with it the writing.
	stop := context.AfterFunc(ctx, func() { _ = in.Close() })
	defer stop()
	type result struct {
		bytes int64
		err   error
	}
	unpacked := make(chan result, 1)
	go func() {
		size, err := e.unpackLayer(in, final, "")
		_ = in.Close()
		unpacked <- result{size.Bytes, err}
	}()
	_, err = e.runCheckpoint(ctx, launch.CheckpointRequest{Dir: e.dir(id), Tar: true, Timeout: checkpointTimeout}, out)
	done := <-unpacked
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case done.err != nil:
		return 0, done.err // the cause of the other
	}
	return done.bytes, err
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

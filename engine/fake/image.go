package fake

import (
	"archive/tar"
	"context"
	"errors"
	"io"

	"cube"
)

// AddImage implements cube.Engine. What Files returns of its sandboxes begins with
// the names in its layers.
func (e *Engine) AddImage(ctx context.Context, req cube.ImageRequest) (cube.SnapshotInfo, error) {
	snap := &snapshot{info: cube.SnapshotInfo{ID: req.Snapshot, Bytes: 1}}
	for _, l := range req.Layers {
		if err := snap.add(ctx, l); err != nil {
			return cube.SnapshotInfo{}, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.snapshots[req.Snapshot] != nil || req.Snapshot == cube.BaseSnapshot {
		return cube.SnapshotInfo{}, cube.Errorf(cube.Conflict, "the snapshot %s exists", req.Snapshot)
	}
	if e.snapshots == nil {
		e.snapshots = map[cube.SnapshotID]*snapshot{}
	}
	e.snapshots[req.Snapshot] = snap
	return snap.info, nil
}

func (snap *snapshot) add(ctx context.Context, l cube.ImageLayer) error {
	content, err := l.Open(ctx)
	if err != nil {
		return err
	}
	defer content.Close()
	for in := tar.NewReader(content); ; {
		header, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return ctx.Err()
		case err != nil:
			return cube.WrapError(cube.Invalid, err, "The image cannot be used: a layer is no tar file")
		}
		snap.files = append(snap.files, header.Name)
		snap.info.Bytes += header.Size
	}
}

package gvisor

import (
	"context"

	"cube"
)

func errNoSnapshots() error {
	return cube.Errorf(cube.Unsupported, "This engine keeps no snapshots")
}

// Checkpoint implements cube.Engine.
func (e *Engine) Checkpoint(context.Context, cube.CheckpointRequest) (cube.SnapshotInfo, error) {
	return cube.SnapshotInfo{}, errNoSnapshots()
}

// Thaw implements cube.Engine. Nothing is ever frozen.
func (e *Engine) Thaw(context.Context, cube.SandboxID) error { return nil }

// Snapshots implements cube.Engine.
func (e *Engine) Snapshots(context.Context) ([]cube.SnapshotInfo, error) { return nil, nil }

// Discard implements cube.Engine.
func (e *Engine) Discard(context.Context, cube.SnapshotID) error { return nil }

package gvisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"cube"
	"cube/engine/gvisor/launch"
	"cube/image"
)

// checkpointTimeout bounds one checkpoint: some GiB onto a slow disk. Tests
// shorten it.
var checkpointTimeout = 5 * time.Minute

// Checkpoint implements cube.Engine.
func (e *Engine) Checkpoint(ctx context.Context, req cube.CheckpointRequest) (cube.SnapshotInfo, error) {
	final, err := e.snapshotDir(req.Snapshot)
	if err != nil {
		return cube.SnapshotInfo{}, err
	}
	s, r, err := e.runningSandbox(req.Sandbox)
	if err != nil {
		return cube.SnapshotInfo{}, err
	}
	if r.Origin == nil {
		return cube.SnapshotInfo{}, cube.Errorf(cube.Unsupported, "sandbox %s was started by an earlier version of the server, which did not write down what a snapshot needs: make a new sandbox", req.Sandbox)
	}
	if err := e.reserveSnapshot(req.Snapshot, final); err != nil {
		return cube.SnapshotInfo{}, err
	}
	defer e.unreserveSnapshot(req.Snapshot)

	s.freezing.Lock()
	defer s.freezing.Unlock()
	if req.Layer {
		return e.keepLayer(ctx, req, r, final)
	}
	if e.packed.sealed() {
		return e.keepSealed(ctx, req, r, final)
	}
	tmp := filepath.Join(e.snapshotsDir(), tmpPrefix+string(req.Snapshot))
	if err := os.RemoveAll(tmp); err != nil { // of a helper that was killed
		return cube.SnapshotInfo{}, fmt.Errorf("removing a half-written snapshot: %w", err)
	}
	result, err := e.runCheckpoint(ctx, launch.CheckpointRequest{
		Dir:     e.dir(req.Sandbox),
		Tmp:     tmp,
		Final:   final,
		Keep:    launch.Manifest{Memory: req.Memory, Root: *r.Origin, Resources: launchResources(r.Resources)},
		Timeout: checkpointTimeout,
	}, nil)
	if err != nil {
		if result.Error == "" {
			// The helper was killed, or had no more time, and has undone nothing.
			err = errors.Join(err, os.RemoveAll(final), e.thaw(req.Sandbox))
		}
		err = errors.Join(err, os.RemoveAll(tmp))
		switch {
		case !e.running(req.Sandbox):
			return cube.SnapshotInfo{}, notRunning(req.Sandbox)
		case result.Full:
			return cube.SnapshotInfo{}, cube.WrapError(cube.Exhausted, err, "there is no room on the disk for the state of sandbox %s, which runs on: remove snapshots or sandboxes that are not needed", req.Sandbox)
		}
		return cube.SnapshotInfo{}, fmt.Errorf("keeping the state of sandbox %s: %w", req.Sandbox, err)
	}
	e.cfg.Log.Debug("checkpoint", "sandbox", req.Sandbox, "snapshot", req.Snapshot, "bytes", result.Bytes, "freeze", result.Freeze, "save", result.Save, "sync", result.Sync)
	return cube.SnapshotInfo{ID: req.Snapshot, Memory: req.Memory, Bytes: result.Bytes}, nil
}

// Thaw implements cube.Engine.
func (e *Engine) Thaw(_ context.Context, id cube.SandboxID) error {
	s, _, err := e.runningSandbox(id)
	if err != nil {
		return err
	}
	s.freezing.Lock()
	defer s.freezing.Unlock()
	err = e.thaw(id)
	if err != nil && !e.running(id) {
		return notRunning(id)
	}
	return err
}

// thaw is not to be given up half-way: it takes milliseconds. The sandbox's
// freezing is held.
func (e *Engine) thaw(id cube.SandboxID) error {
	if e.thawed(id) {
		return nil
	}
	_, err := e.runCheckpoint(context.Background(), launch.CheckpointRequest{Dir: e.dir(id), Thaw: true, Timeout: startTimeout}, nil)
	if err != nil {
		return fmt.Errorf("letting sandbox %s run on: %w", id, err)
	}
	return nil
}

func (e *Engine) runningSandbox(id cube.SandboxID) (*sandbox, record, error) {
	if !e.running(id) {
		return nil, record{}, notRunning(id)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sandboxes[id]
	if s == nil {
		return nil, record{}, notRunning(id)
	}
	return s, s.record, nil
}

// reserveSnapshot takes a name for a checkpoint that begins.
func (e *Engine) reserveSnapshot(id cube.SnapshotID, dir string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, isRoot := e.roots[id]
	if _, err := os.Lstat(dir); isRoot || err == nil || e.writing[id] {
		return cube.Errorf(cube.Conflict, "a snapshot %q exists already", id)
	}
	e.writing[id] = true
	return nil
}

func (e *Engine) unreserveSnapshot(id cube.SnapshotID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.writing, id)
}

// runCheckpoint runs the helper process. When ctx ends the helper is told, and
// undoes what it has done, unless the snapshot stands already. tar is where it
// writes to for a request that says so.
func (e *Engine) runCheckpoint(ctx context.Context, request launch.CheckpointRequest, tar *os.File) (launch.CheckpointResult, error) {
	var result launch.CheckpointResult
	var pipes pipes
	defer pipes.closeTheirs()
	requestIn, requestOut := pipes.make()
	resultIn, resultOut := pipes.make()
	if pipes.err != nil {
		pipes.closeOurs()
		return result, pipes.err
	}
	pipes.theirs = []*os.File{requestIn, resultOut}
	pipes.ours = []*os.File{requestOut, resultIn}
	defer pipes.closeOurs()

	cmd := exec.Command(e.runsc, launch.CheckpointCommand)
	cmd.Env = []string{}
	cmd.Stdin = requestIn
	cmd.ExtraFiles = []*os.File{resultOut}
	if tar != nil {
		pipes.theirs = append(pipes.theirs, tar)
		cmd.ExtraFiles = append(cmd.ExtraFiles, tar)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a signal to the server's group is none to the helper
	if err := cmd.Start(); err != nil {
		return result, err
	}
	pipes.closeTheirs()
	stop := context.AfterFunc(ctx, func() { _ = requestOut.Close() })
	defer stop()
	err := json.NewEncoder(requestOut).Encode(request)
	if err == nil {
		err = json.NewDecoder(io.LimitReader(resultIn, 1<<20)).Decode(&result)
	}
	_ = requestOut.Close()
	if e := cmd.Wait(); err != nil {
		err = errors.Join(err, e)
	}
	if err == nil && result.Error != "" {
		err = errors.New(result.Error)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return result, err
}

func launchRoot(root image.Root) launch.Root {
	r := launch.Root{Dir: root.Dir, Masked: root.Masked, Top: root.Top}
	for _, b := range root.Binds {
		r.Binds = append(r.Binds, launch.Bind(b))
	}
	return r
}

func launchResources(r cube.Resources) launch.Resources {
	return launch.Resources{CPUs: r.CPUs, MemoryMB: r.MemoryMB, DiskMB: r.DiskMB, Pids: r.Pids}
}

package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
)

// tarFD is the first file that a checkpoint's helper gets beside its result.
const tarFD = launch.ResultFD + 1

// keepSealed is Checkpoint where there is a key: gVisor writes into memory, and
// what reaches the disk is encrypted. The sandbox's freezing is held.
func (e *Engine) keepSealed(ctx context.Context, req cube.CheckpointRequest, r record, final string) (cube.SnapshotInfo, error) {
	info := cube.SnapshotInfo{ID: req.Snapshot, Memory: req.Memory}
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	used, err := e.cgroups.stats(req.Sandbox)
	if err == nil && !e.hasMemory(used.MemoryBytes) {
		return info, cube.Errorf(cube.Exhausted, "the machine has too little memory left to encrypt what sandbox %s holds, which runs on: try again when other sandboxes have ended", req.Sandbox)
	}
	// What the sandbox's kernel writes is counted as its own memory, in which there
	// may be no room for it twice. Nothing inside runs meanwhile.
	if err := e.cgroups.allowMemory(req.Sandbox, 2*r.Resources.MemoryMB+minMemoryMB); err != nil {
		return info, err
	}
	defer func() {
		if err := e.cgroups.allowMemory(req.Sandbox, r.Resources.MemoryMB); err != nil && e.running(req.Sandbox) {
			e.cfg.Log.Error("a sandbox's memory limit could not be put back", "sandbox", req.Sandbox, "error", err)
		}
	}()
	dir, err := memoryDir()
	if err != nil {
		return info, err
	}
	defer dir.Close()
	theirs, err := duplicate(dir)
	if err != nil {
		return info, err
	}
	result, err := e.runCheckpoint(ctx, launch.CheckpointRequest{
		Dir:     e.dir(req.Sandbox),
		Tmp:     filepath.Join(openFD(tarFD), "tmp"),
		Final:   filepath.Join(openFD(tarFD), "whole"),
		Keep:    launch.Manifest{Memory: req.Memory, Root: *r.Origin, Resources: launchResources(r.Resources)},
		Timeout: checkpointTimeout,
	}, theirs)
	frozen := err == nil || result.Error == "" // the helper has undone nothing
	if err == nil {
		err = e.seal(ctx, req.Snapshot, filepath.Join(openFD(int(dir.Fd())), "whole"), final)
	}
	if err == nil {
		info.Bytes = e.bytesOnDisk(req.Snapshot, launch.Manifest{})
		e.cfg.Log.Debug("checkpoint", "sandbox", req.Sandbox, "snapshot", req.Snapshot, "bytes", result.Bytes, "sealed", info.Bytes, "freeze", result.Freeze, "save", result.Save)
		return info, nil
	}
	if frozen {
		err = errors.Join(err, e.thaw(req.Sandbox))
	}
	switch {
	case !e.running(req.Sandbox):
		return info, notRunning(req.Sandbox)
	case result.Full || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return info, cube.WrapError(cube.Exhausted, err, "there is no room for the state of sandbox %s, which runs on: remove snapshots or sandboxes that are not needed", req.Sandbox)
	}
	return info, fmt.Errorf("keeping the state of sandbox %s: %w", req.Sandbox, err)
}

// seal makes a snapshot of files that are in memory. On an error nothing of it is
// left.
func (e *Engine) seal(ctx context.Context, id cube.SnapshotID, from, final string) (err error) {
	m, err := launch.ReadManifest(from)
	if err != nil {
		return err
	}
	tmp := filepath.Join(e.snapshotsDir(), tmpPrefix+string(id))
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	list, err := e.packFiles(ctx, from, m)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp), os.RemoveAll(final))
			e.packed.store.Release(list)
		}
	}()
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	if err := m.Write(tmp); err != nil {
		return err
	}
	if err := e.packed.store.WriteList(filepath.Join(tmp, listFile), string(id), list); err != nil {
		return err
	}
	if err := errors.Join(syncDir(tmp), ctx.Err()); err != nil {
		return err
	}
	if err := os.Rename(tmp, final); err != nil {
		return err
	}
	return syncDir(e.snapshotsDir())
}

func duplicate(file *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}

// allowMemory sets the limit of a sandbox's memory.
func (c *cgroups) allowMemory(id cube.SandboxID, mib int) error {
	name := "memory.max"
	if c.version != 2 {
		name = "memory.limit_in_bytes"
	}
	return c.write("memory", id, name, strconv.FormatInt(int64(mib)<<20, 10))
}

package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
)

// A snapshot is a directory below snapshots/ that is named for it and has a
// manifest. It is written under another name and renamed when it is on the disk,
// and never changed then, so any number of sandboxes can start from it at once.

// tmpPrefix begins the names of snapshots that are not whole.
const tmpPrefix = ".tmp-"

var snapshotIDPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// snapshotDir is where a snapshot stands, or would.
func (e *Engine) snapshotDir(id cube.SnapshotID) (string, error) {
	if !snapshotIDPattern.MatchString(string(id)) {
		return "", cube.Errorf(cube.Invalid, "%q cannot name a snapshot: use letters, digits, dots and dashes, 128 at the most", id)
	}
	return filepath.Join(e.snapshotsDir(), string(id)), nil
}

func (e *Engine) snapshotsDir() string { return filepath.Join(e.cfg.DataDir, "snapshots") }

// openSnapshots removes those that an earlier server has left half-written, and
// calls use with the manifests of the others. Helpers of the earlier server may
// be at work still: they end by themselves, in a moment.
func (e *Engine) openSnapshots(use func(launch.Manifest)) error {
	if err := os.MkdirAll(e.snapshotsDir(), 0o700); err != nil {
		return fmt.Errorf("making the snapshots' directory: %w", err)
	}
	sandboxes, err := os.ReadDir(e.dir(""))
	if err != nil {
		return err
	}
	for _, entry := range sandboxes {
		if err := awaitHelper(filepath.Join(e.dir(""), entry.Name())); err != nil {
			return fmt.Errorf("waiting for a checkpoint of the last server: %w", err)
		}
	}
	entries, err := os.ReadDir(e.snapshotsDir())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(e.snapshotsDir(), entry.Name())
		if strings.HasPrefix(entry.Name(), tmpPrefix) {
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("removing a half-written snapshot: %w", err)
			}
			continue
		}
		if m, err := launch.ReadManifest(dir); err == nil {
			use(m)
		}
	}
	return nil
}

// awaitHelper returns when no helper works on a sandbox.
func awaitHelper(dir string) error {
	file, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for {
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Snapshots implements cube.Engine.
func (e *Engine) Snapshots(context.Context) ([]cube.SnapshotInfo, error) {
	entries, err := os.ReadDir(e.snapshotsDir())
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots: %w", err)
	}
	var list []cube.SnapshotInfo
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		// One whose manifest is damaged is listed too, or it could never be removed.
		m, err := launch.ReadManifest(filepath.Join(e.snapshotsDir(), entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed in the meantime
		}
		list = append(list, cube.SnapshotInfo{ID: cube.SnapshotID(entry.Name()), Memory: m.Memory, Bytes: e.bytesOnDisk(cube.SnapshotID(entry.Name()), m)})
	}
	return list, nil
}

// Discard implements cube.Engine. Sandboxes that have started from a snapshot
// hold its files open and need its names no more.
func (e *Engine) Discard(_ context.Context, id cube.SnapshotID) error {
	dir, err := e.snapshotDir(id)
	if err != nil {
		return nil // nothing can have that name
	}
	if id == cube.BaseSnapshot {
		return cube.Errorf(cube.Invalid, "the snapshot %q is the machine's own and cannot be removed", id)
	}
	// Away at once, whatever happens to the server in the middle of it.
	gone := filepath.Join(e.snapshotsDir(), tmpPrefix+"gone-"+string(id)+"-"+string(cube.NewSandboxID()))
	e.mu.Lock()
	inUse := e.starting[id] > 0
	if !inUse {
		err = os.Rename(dir, gone)
	}
	e.mu.Unlock()
	switch {
	case inUse:
		return cube.Errorf(cube.Conflict, "a sandbox is just starting from the snapshot %q: try again in a moment", id)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		err = e.removeSnapshot(id, gone)
	}
	if err != nil {
		return fmt.Errorf("removing the snapshot %q: %w", id, err)
	}
	e.sweepLayers()
	return nil
}

// origin is what a sandbox starts from.
type origin struct {
	root     launch.Root
	snapshot *launch.Snapshot // nil: the root as it is
	// unpacked is the directory of a packed snapshot's files, nil for one that is
	// not packed.
	unpacked *os.File
}

// continues is whether processes go on, not start.
func (o origin) continues() bool { return o.snapshot != nil && o.snapshot.Manifest.Memory }

// openOrigin finds a snapshot and keeps it from being discarded until release.
func (e *Engine) openOrigin(req cube.StartRequest) (_ origin, release func(), err error) {
	if root, ok := e.roots[req.Snapshot]; ok {
		return origin{root: launchRoot(root)}, func() {}, nil
	}
	dir, err := e.snapshotDir(req.Snapshot)
	if err != nil {
		return origin{}, nil, cube.Errorf(cube.NotFound, "there is no snapshot %q", req.Snapshot)
	}
	e.mu.Lock()
	e.starting[req.Snapshot]++
	e.packed.used[req.Snapshot] = time.Now()
	e.mu.Unlock()
	release = func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.packed.used[req.Snapshot] = time.Now()
		if e.starting[req.Snapshot]--; e.starting[req.Snapshot] == 0 {
			delete(e.starting, req.Snapshot)
		}
	}
	o, err := e.readOrigin(dir, req)
	if err == nil && o.snapshot != nil && isPacked(dir) {
		if o.unpacked, err = e.unpackSnapshot(req.Snapshot, o.snapshot); err == nil {
			released := release
			release = func() {
				e.releaseUnpacked(req.Snapshot)
				released()
			}
		}
	}
	if err != nil {
		release()
		return origin{}, nil, err
	}
	return o, release, nil
}

func (e *Engine) readOrigin(dir string, req cube.StartRequest) (origin, error) {
	m, err := launch.ReadManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return origin{}, cube.Errorf(cube.NotFound, "there is no snapshot %q", req.Snapshot)
	}
	if err != nil {
		return origin{}, cube.WrapError(cube.Internal, err, "the snapshot %q is damaged", req.Snapshot)
	}
	// Programs that run have been told what they have. Memory is the exception:
	// it is asked for anew each time, and its limit is the control group's.
	kept, wanted := m.Resources, launchResources(req.Resources)
	if kept.MemoryMB = wanted.MemoryMB; m.Memory && kept != wanted {
		return origin{}, cube.Errorf(cube.Invalid, "the snapshot %q continues with the processors, disk and processes that it was kept with (%d, %d MiB, %d): start it with these",
			req.Snapshot, m.Resources.CPUs, m.Resources.DiskMB, m.Resources.Pids)
	}
	if m.Memory && wanted.MemoryMB < m.Resources.MemoryMB {
		return origin{}, cube.Errorf(cube.Invalid, "the snapshot %q holds processes that could use %d MiB of memory: start it with as much", req.Snapshot, m.Resources.MemoryMB)
	}
	root := e.locate(m.Root)
	if m.Layers {
		root = e.renew(root)
	}
	if _, err := os.Stat(root.Dir); err != nil {
		return origin{}, cube.WrapError(cube.Internal, err, "the files that the snapshot %q was made over are gone", req.Snapshot)
	}
	for _, dir := range root.Layers {
		if _, err := os.Stat(dir); err != nil {
			return origin{}, cube.WrapError(cube.Internal, err, "a layer that the snapshot %q was made of is gone", req.Snapshot)
		}
	}
	if !root.Top {
		// What has become private on this machine since then stays private.
		root.Masked = slices.Concat(root.Masked, e.roots[cube.BaseSnapshot].Masked)
		slices.Sort(root.Masked)
		root.Masked = slices.Compact(root.Masked) // or it would grow with each snapshot of a snapshot
	}
	if m.Layers {
		return origin{root: root}, nil
	}
	return origin{root: root, snapshot: &launch.Snapshot{Dir: dir, Manifest: m}}, nil
}

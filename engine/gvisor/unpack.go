package gvisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
)

// unpacked is the directory, in memory, of a packed snapshot's files. All starts
// at one time share it.
type unpacked struct {
	dir   *os.File
	users int // guarded by Engine.mu
}

// memoryDir returns an empty directory in the machine's memory. It is mounted
// nowhere: who has it open, or a file of it, has it, and then it is gone.
func memoryDir() (*os.File, error) {
	fsfd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a directory in memory: %w", err)
	}
	defer unix.Close(fsfd)
	_ = unix.FsconfigSetFlag(fsfd, "noswap") // of Linux 6.4
	err = unix.FsconfigSetString(fsfd, "mode", "0700")
	if err == nil {
		err = unix.FsconfigCreate(fsfd)
	}
	if err != nil {
		return nil, fmt.Errorf("making a directory in memory: %w", err)
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a directory in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), "memory"), nil
}

// memoryReserve is what is left to the machine by what is put into its memory.
const memoryReserve = 64 << 20

// hasMemory tells whether so many bytes more fit into the machine's memory.
func (e *Engine) hasMemory(bytes int64) bool {
	return e.cfg.FreeMemory == nil || e.cfg.FreeMemory() >= bytes+memoryReserve
}

// openFD is a path to what a process has open.
func openFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// unpackSnapshot gives the files of a packed snapshot to a start, which releaseUnpacked
// takes back, and says in s where they are for its helper. Nothing is given out
// before all of it is known to be what was written.
func (e *Engine) unpackSnapshot(id cube.SnapshotID, s *launch.Snapshot) (*os.File, error) {
	from := s.Dir
	s.Dir = openFD(launch.UnpackedFD)
	e.packed.unpacking.Lock()
	defer e.packed.unpacking.Unlock()
	e.mu.Lock()
	u := e.packed.unpacked[id]
	if u != nil {
		u.users++
	}
	e.mu.Unlock()
	if u != nil {
		return u.dir, nil
	}
	dir, err := memoryDir()
	if err == nil {
		if err = e.unpackInto(dir, id, from); err != nil {
			_ = dir.Close()
		}
	}
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM):
		return nil, cube.WrapError(cube.Exhausted, err, "the machine has too little memory to unpack the snapshot %q: try again when other sandboxes have ended", id)
	case err != nil:
		return nil, cube.WrapError(cube.Internal, err, "the snapshot %q could not be read", id)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.packed.unpacked[id] = &unpacked{dir: dir, users: 1}
	return dir, nil
}

func (e *Engine) unpackInto(dir *os.File, id cube.SnapshotID, from string) error {
	list, err := e.readList(from, id)
	if err != nil {
		return fmt.Errorf("the snapshot is damaged: %w", err)
	}
	if !e.hasMemory(list.Size()) {
		return unix.ENOMEM
	}
	for _, f := range list.Files {
		file, err := os.OpenFile(filepath.Join(openFD(int(dir.Fd())), filepath.Base(f.Name)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(e.packed.store.Unpack(f, file), file.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) releaseUnpacked(id cube.SnapshotID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	u := e.packed.unpacked[id]
	if u.users--; u.users == 0 {
		delete(e.packed.unpacked, id)
		_ = u.dir.Close()
	}
}

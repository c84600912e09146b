package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cube/engine/gvisor/launch"
)

// mountRoot binds the host's parts into the root directory, in this process's
// own mount namespace. It needs root: mount(2).
func mountRoot(root launch.Root) error {
	// Mounts of the host still arrive (an unmount there must not be held up by
	// us); none of ours leave.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separating the mounts from the host's: %w", err)
	}
	if len(root.Layers) > 0 {
		return mountLayered(root)
	}
	for _, b := range root.Binds {
		if err := bindReadOnly(b.Source, filepath.Join(root.Dir, b.Target)); err != nil {
			return err
		}
	}
	for _, masked := range root.Masked {
		if err := mask(filepath.Join(root.Dir, masked)); err != nil {
			return fmt.Errorf("masking %s: %w", masked, err)
		}
	}
	return nil
}

// bindReadOnly binds with the mounts below source. The read-only flag takes a
// second call: the kernel ignores it in the first.
func bindReadOnly(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s: %w", source, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("making %s read-only: %w", source, err)
	}
	return nil
}

// mask covers a directory with an empty one, and a file with the null device.
func mask(target string) error {
	info, err := os.Lstat(target)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it left the host since the root was made
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return unix.Mount("empty", target, "tmpfs", unix.MS_RDONLY, "size=4k,mode=755")
	}
	return unix.Mount(os.DevNull, target, "", unix.MS_BIND, "")
}

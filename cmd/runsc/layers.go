package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"cube/engine/gvisor/launch"
)

// mountLayered mounts a root that has layers: its directory and they as one, and
// each part of the host with what they have changed in it. A mount that is below
// a part of the host is not in it, as overlayfs takes a file system by itself.
func mountLayered(root launch.Root) error {
	parts := slices.Concat([]string{root.Dir}, root.Layers)
	if root.Top {
		parts = slices.Concat(root.Layers, []string{root.Dir})
	}
	if err := overlay(root.Dir, parts); err != nil {
		return err
	}
	for _, b := range root.Binds {
		if err := bindLayered(b, root); err != nil {
			return err
		}
	}
	for _, masked := range root.Masked {
		if err := maskLayered(masked, root); err != nil {
			return fmt.Errorf("masking %s: %w", masked, err)
		}
	}
	return nil
}

func bindLayered(b launch.Bind, root launch.Root) error {
	seen, err := look(root.Layers, b.Target)
	target := filepath.Join(root.Dir, b.Target)
	switch {
	case err != nil:
		return err
	case seen.replaced: // a mount there could lead elsewhere
		return fmt.Errorf("a layer has something else in the place of /%s, which is this machine's own", b.Target)
	case len(seen.parts) == 0:
		return bindReadOnly(b.Source, target)
	case seen.hides:
		return overEmpty(target, seen.parts)
	}
	return overlay(target, slices.Concat([]string{b.Source}, seen.parts))
}

// maskLayered masks what is private on the host where a layer does not hide it
// already. What layers have put into a private directory is there.
func maskLayered(name string, root launch.Root) error {
	seen, err := look(root.Layers, name)
	target := filepath.Join(root.Dir, name)
	switch {
	case err != nil:
		return err
	case seen.hides:
		return nil
	case len(seen.parts) == 0:
		return mask(target)
	}
	return overEmpty(target, seen.parts)
}

// overEmpty mounts directories as one over nothing: overlayfs takes two at least.
func overEmpty(target string, parts []string) error {
	if err := unix.Mount("empty", target, "tmpfs", unix.MS_RDONLY, "size=4k,mode=755"); err != nil {
		return err
	}
	return overlay(target, slices.Concat([]string{target}, parts))
}

// overlay mounts directories, the lowest first, as one and read-only.
func overlay(target string, parts []string) error {
	err := overlayByParts(target, parts)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = overlayByList(target, parts) // Linux before 6.8
	}
	if err != nil {
		return fmt.Errorf("mounting %d layers with overlayfs: %w", len(parts), err)
	}
	return nil
}

// untrusted are settings that keep overlayfs from following what layers say of
// other places.
var untrusted = [][2]string{{"redirect_dir", "nofollow"}, {"metacopy", "off"}}

func overlayByParts(target string, parts []string) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fs) }()
	for _, part := range slices.Backward(parts) { // it wants the uppermost first
		if err := unix.FsconfigSetString(fs, "lowerdir+", part); err != nil {
			return err
		}
	}
	for _, setting := range untrusted {
		if err := unix.FsconfigSetString(fs, setting[0], setting[1]); err != nil {
			return err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(mount) }()
	return unix.MoveMount(mount, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// overlayByList is for kernels that take all directories in the options of
// mount(2), which may be a page long: names of descriptors are short.
func overlayByList(target string, parts []string) error {
	var names []string
	for _, part := range slices.Backward(parts) {
		dir, err := os.OpenFile(part, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer dir.Close()
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	}
	options := "lowerdir=" + strings.Join(names, ":")
	for _, setting := range untrusted {
		options += "," + setting[0] + "=" + setting[1]
	}
	if len(options) >= os.Getpagesize() {
		return errors.New("this machine's kernel takes no list of layers as long as this: Linux 6.8 or newer does")
	}
	return unix.Mount("overlay", target, "overlay", unix.MS_RDONLY|unix.MS_NODEV, options)
}

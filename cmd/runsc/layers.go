package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"cube/engine/gvisor/launch"
)

// mountLayers mounts a root's layers and its directory as one, over the directory.
// It needs root: fsopen(2), and trusted attributes.
func mountLayers(root launch.Root) error {
	if len(root.Layers) == 0 {
		return nil
	}
	lowest := []string{root.Dir}
	if root.Top {
		lowest = nil
	}
	parts := append(lowest, root.Layers...)
	if root.Top {
		parts = append(parts, root.Dir)
	}
	return overlay(root.Dir, parts)
}

// bindLayered binds a part of the host with what layers have changed in it.
func bindLayered(source, target string, root launch.Root) error {
	parts := []string{source}
	for _, layer := range root.Layers {
		switch has, err := hasDirectory(layer, target); {
		case err != nil:
			return err
		case has:
			parts = append(parts, filepath.Join(layer, target))
		}
	}
	if len(parts) == 1 {
		return bindReadOnly(source, filepath.Join(root.Dir, target))
	}
	return overlay(filepath.Join(root.Dir, target), parts)
}

// hasDirectory tells whether a layer changes something in a directory. One that
// has something else in its place is refused: it must not lead elsewhere.
func hasDirectory(layer, name string) (bool, error) {
	fd, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(fd) }()
	inner, err := unix.Openat2(fd, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("a layer has something else in the place of /%s, which is this machine's own: %w", name, err)
	}
	return true, unix.Close(inner)
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
	for i := len(parts) - 1; i >= 0; i-- { // it wants the uppermost first
		if err := unix.FsconfigSetString(fs, "lowerdir+", parts[i]); err != nil {
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

// maxOptions bounds the options of mount(2): a page.
const maxOptions = 4095

func overlayByList(target string, parts []string) error {
	var reversed []string
	for i := len(parts) - 1; i >= 0; i-- {
		reversed = append(reversed, strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace(parts[i]))
	}
	options := "lowerdir=" + strings.Join(reversed, ":")
	for _, setting := range untrusted {
		options += "," + setting[0] + "=" + setting[1]
	}
	if len(options) > maxOptions {
		return errors.New("this machine's kernel takes no list of layers as long as this: Linux 6.8 or newer does")
	}
	return unix.Mount("overlay", target, "overlay", unix.MS_RDONLY|unix.MS_NODEV, options)
}

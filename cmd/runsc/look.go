package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// seen is what layers have at a path.
type seen struct {
	parts    []string // their directories there, the lowest first
	hides    bool     // nothing shows of what is below the layers
	replaced bool     // so it is, and no directory of theirs is there
}

// look tells what layers, the lowest first, have at a path, as overlayfs reads
// them from their own tops. Where a mount begins further down it heeds no mark on
// the directories that it is given, nor on those above them.
func look(layers []string, name string) (seen, error) {
	var s seen
	for _, layer := range slices.Backward(layers) {
		found, err := lookInto(layer, name)
		if err != nil {
			return s, fmt.Errorf("looking for /%s in a layer: %w", name, err)
		}
		if found == isDirectory || found == isOpaque {
			s.parts = append(s.parts, filepath.Join(layer, name))
		}
		if found == isOther || found == isBelowOther || found == isOpaque || found == isBelowOpaque {
			s.hides = true
			s.replaced = len(s.parts) == 0
			break
		}
	}
	slices.Reverse(s.parts)
	return s, nil
}

// What one layer has at a path.
type finding int

const (
	isAbsent      finding = iota
	isDirectory           // one that adds to what is below
	isOpaque              // one that hides what is below
	isBelowOpaque         // nothing, and what is below is hidden
	isOther               // a deletion, or no directory
	isBelowOther          // nothing, for a part of the path is that
)

func lookInto(layer, name string) (finding, error) {
	fd, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return isAbsent, err
	}
	defer func() { _ = unix.Close(fd) }()
	hidden := false
	parts := strings.Split(name, "/")
	for i, part := range parts {
		next, err := unix.Openat(fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch {
		case errors.Is(err, unix.ENOENT) && hidden:
			return isBelowOpaque, nil
		case errors.Is(err, unix.ENOENT):
			return isAbsent, nil
		case err != nil:
			return isAbsent, err
		}
		_ = unix.Close(fd)
		fd = next
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil {
			return isAbsent, err
		}
		if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			if i == len(parts)-1 {
				return isOther, nil
			}
			return isBelowOther, nil
		}
		mark := make([]byte, 1)
		n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), "trusted.overlay.opaque", mark)
		hidden = hidden || err == nil && n == 1 && mark[0] == 'y'
	}
	if hidden {
		return isOpaque, nil
	}
	return isDirectory, nil
}

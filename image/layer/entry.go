package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The marks of the OCI image specification (layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueMark     = ".wh..wh..opq"
	reservedPrefix = ".wh..wh."
)

const (
	// opaque is overlayfs's mark of a directory that hides what is below it.
	opaque = "trusted.overlay.opaque"
	// origin, empty, is on directories that hold whiteouts. Where nothing is below
	// them overlayfs would list the whiteouts as files otherwise (ovl_get_inode).
	origin = "trusted.overlay.origin"
)

// unpacker writes below one directory.
type unpacker struct {
	root     int // its descriptor
	limits   Limits
	contents Contents // nil: they are in the tar file
	size     Size
	times    map[string]unix.Timespec // of directories, to be set last
	names    int                      // bytes of the keys of times

	at     string // the directory that parent has opened last, and its descriptor
	fd     int
	opened bool
	buffer []byte
}

// one unpacks one entry.
func (u *unpacker) one(h *tar.Header, content io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return wrong("the layer's root is no directory")
		}
		if err := u.remember(".", h); err != nil {
			return err
		}
		return u.describe(u.root, h)
	}
	parent, err := u.parent(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	switch {
	case base == opaqueMark:
		return setXattr(parent, opaque, "y")
	case strings.HasPrefix(base, reservedPrefix):
		return nil // aufs's own, of no meaning here
	case strings.HasPrefix(base, whiteoutPrefix):
		return u.whiteout(parent, strings.TrimPrefix(base, whiteoutPrefix))
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(parent, base, name, h)
	case tar.TypeReg:
		return u.regular(parent, base, h, content)
	case tar.TypeSymlink:
		return u.symlink(parent, base, h)
	case tar.TypeLink:
		return u.link(parent, base, name, h)
	case tar.TypeFifo:
		return u.node(parent, base, unix.S_IFIFO, h)
	case tar.TypeChar, tar.TypeBlock:
		if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 {
			return u.whiteout(parent, base) // as gVisor writes them
		}
		if u.contents != nil || strings.HasPrefix(name, "dev/") {
			return nil // many images hold some, and each sandbox has its own /dev
		}
		return wrong("%.200q is a device: images may not hold devices outside /dev", h.Name)
	}
	return wrong("%.200q is of a kind (%q) that no file system has", h.Name, h.Typeflag)
}

// cleanName is an entry's path below the root, "" for the root itself. Names that
// climb out lead to the root, as in a file system.
func cleanName(name string) (string, error) {
	cleaned := strings.TrimPrefix(path.Clean("/"+name), "/")
	switch {
	case strings.ContainsRune(name, 0):
		return "", wrong("a file's name holds a zero byte")
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "", wrong("%.200q leads out of the layer", name)
	case len(cleaned) > maxPath:
		return "", wrong("%.100q… is longer than the %d bytes that a path may have", name, maxPath)
	}
	for _, part := range strings.Split(cleaned, "/") {
		if len(part) > maxName {
			return "", wrong("%.100q… has a part longer than the %d bytes that a name may have", name, maxName)
		}
	}
	return cleaned, nil
}

// how opens paths as if the layer were the whole file system: links are followed
// within it alone.
var how = unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}

// parent opens the directory that an entry is in, and makes it if need be. The
// descriptor holds until the next call.
func (u *unpacker) parent(dir string) (int, error) {
	if dir == "." {
		return u.root, nil
	}
	if u.opened && u.at == dir {
		return u.fd, nil
	}
	u.leave()
	fd, err := unix.Openat2(u.root, dir, &how)
	if errors.Is(err, unix.ENOENT) {
		fd, err = u.makeParents(dir)
	}
	if err != nil {
		return 0, parentError(dir, err)
	}
	u.at, u.fd, u.opened = dir, fd, true
	return fd, nil
}

func parentError(dir string, err error) error {
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) {
		return wrong("%.200q is no directory, and the layer has files in it", dir)
	}
	return err
}

// makeParents makes the directories of a path that the layer does not name.
func (u *unpacker) makeParents(dir string) (int, error) {
	for i := range dir {
		if dir[i] != '/' {
			continue
		}
		if err := u.makeDirectory(dir[:i]); err != nil {
			return 0, err
		}
	}
	if err := u.makeDirectory(dir); err != nil {
		return 0, err
	}
	return unix.Openat2(u.root, dir, &how)
}

func (u *unpacker) makeDirectory(dir string) error {
	above, err := unix.Openat2(u.root, path.Dir(dir), &how)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(above) }()
	if err := unix.Mkdirat(above, path.Base(dir), 0o755); errors.Is(err, unix.EEXIST) {
		return nil
	} else if err != nil {
		return err
	}
	return u.count()
}

// leave closes the directory that parent has opened.
func (u *unpacker) leave() {
	if u.opened {
		_ = unix.Close(u.fd)
		u.opened = false
	}
}

// remember keeps a directory's time for the end.
func (u *unpacker) remember(name string, h *tar.Header) error {
	if _, known := u.times[name]; !known {
		if u.names += len(name); u.names > maxNames {
			return wrong("the names of the layer's directories are longer than %d bytes", maxNames)
		}
	}
	u.times[name] = timeOf(h)
	return nil
}

// setTimes sets the times of directories, which every file in them has changed.
func (u *unpacker) setTimes() error {
	for _, dir := range slices.Sorted(maps.Keys(u.times)) {
		fd, err := unix.Openat2(u.root, dir, &how)
		if err != nil {
			continue // it was replaced by something else
		}
		t := u.times[dir]
		err = unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), []unix.Timespec{t, t}, 0)
		_ = unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

func timeOf(h *tar.Header) unix.Timespec {
	t, err := unix.TimeToTimespec(h.ModTime)
	if err != nil {
		return unix.Timespec{}
	}
	return t
}

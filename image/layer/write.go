package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// clear removes what stands where an entry goes. A layer may name a file twice;
// the last one counts.
func (u *unpacker) clear(parent int, base string) error {
	err := unix.Unlinkat(parent, base, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		u.at = "" // it may be in what is removed; the descriptor is closed later
		err = os.RemoveAll(fmt.Sprintf("/proc/self/fd/%d/%s", parent, base))
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (u *unpacker) directory(parent int, base, name string, h *tar.Header) error {
	err := unix.Mkdirat(parent, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var stat unix.Stat_t
		if err = unix.Fstatat(parent, base, &stat, unix.AT_SYMLINK_NOFOLLOW); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			if err = u.clear(parent, base); err == nil {
				err = unix.Mkdirat(parent, base, 0o700)
			}
		}
	}
	if err != nil {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := u.remember(name, h); err != nil {
		return err
	}
	return u.describe(fd, h)
}

func (u *unpacker) regular(parent int, base string, h *tar.Header, entry io.Reader) error {
	file := File{Size: h.Size, Parts: []Part{{Size: h.Size}}}
	if u.contents != nil {
		var err error
		if file, err = u.contents(h, entry); err != nil {
			return err
		}
	}
	if err := u.check(file); err != nil {
		return err
	}
	if err := u.clear(parent, base); err != nil {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), base)
	defer out.Close()
	if err := u.write(out, entry, file); err != nil {
		return err
	}
	if err := u.describe(fd, h); err != nil {
		return err
	}
	t := timeOf(h)
	return unix.UtimesNanoAt(parent, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) symlink(parent int, base string, h *tar.Header) error {
	if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
		return wrong("%.200q is a link that leads to no path", h.Name)
	}
	if err := u.clear(parent, base); err != nil {
		return err
	}
	u.leaveLater()
	if err := unix.Symlinkat(h.Linkname, parent, base); err != nil {
		return err
	}
	if err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	t := timeOf(h)
	return unix.UtimesNanoAt(parent, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

// leaveLater has the next entry look its directory up again: a link may lead
// elsewhere from now on.
func (u *unpacker) leaveLater() { u.at = "" }

// link makes another name of a file of the same layer.
func (u *unpacker) link(parent int, base, name string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	if target == name {
		return wrong("%.200q is a link to itself", h.Name)
	}
	from, err := unix.Openat2(u.root, path.Dir(target), &how)
	if err != nil {
		return wrong("%.200q links to %.200q, which is not in its layer", h.Name, h.Linkname)
	}
	defer func() { _ = unix.Close(from) }()
	var stat unix.Stat_t
	if err := unix.Fstatat(from, path.Base(target), &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return wrong("%.200q links to %.200q, which is not in its layer", h.Name, h.Linkname)
	}
	var there unix.Stat_t
	if unix.Fstatat(parent, base, &there, unix.AT_SYMLINK_NOFOLLOW) == nil && there.Ino == stat.Ino {
		return nil // it is that file already
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return wrong("%.200q links to %.200q, which is a directory", h.Name, h.Linkname)
	}
	if err := u.clear(parent, base); err != nil {
		return err
	}
	u.leaveLater()
	return unix.Linkat(from, path.Base(target), parent, base, 0)
}

// whiteout marks a name as deleted.
func (u *unpacker) whiteout(parent int, base string) error {
	if base == "" || base == "." || base == ".." {
		return wrong("the layer deletes a file without a name")
	}
	if err := u.clear(parent, base); err != nil {
		return err
	}
	if err := unix.Mknodat(parent, base, unix.S_IFCHR, 0); err != nil {
		return err
	}
	return setXattr(parent, origin, "")
}

func (u *unpacker) node(parent int, base string, kind uint32, h *tar.Header) error {
	if err := u.clear(parent, base); err != nil {
		return err
	}
	if err := unix.Mknodat(parent, base, kind|0o600, 0); err != nil {
		return err
	}
	if err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	// It is no link, and nobody else writes here.
	return unix.Fchmodat(parent, base, uint32(h.Mode)&0o7777, 0)
}

// describe gives a file its owner, attributes and mode, in this order: a new owner
// takes the set-user-ID bit and capabilities away.
func (u *unpacker) describe(fd int, h *tar.Header) error {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > 1<<32-2 || int64(h.Gid) > 1<<32-2 {
		return wrong("%.200q belongs to nobody that there can be (%d, %d)", h.Name, h.Uid, h.Gid)
	}
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return err
	}
	for key, value := range h.PAXRecords {
		name, is := strings.CutPrefix(key, "SCHILY.xattr.")
		if !is || !mayHave(name) {
			continue
		}
		if err := setXattr(fd, name, value); err != nil {
			return err
		}
	}
	return unix.Fchmod(fd, uint32(h.Mode)&0o7777)
}

// mayHave tells which attributes mean something in a sandbox.
func mayHave(name string) bool {
	return name == "security.capability" || name == opaque ||
		strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

func setXattr(fd int, name, value string) error {
	// Not fsetxattr: parents are open by O_PATH.
	err := unix.Setxattr(fmt.Sprintf("/proc/self/fd/%d", fd), name, []byte(value), 0)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ERANGE) {
		return wrong("a file has attributes (%.100q) larger than a file system keeps", name)
	}
	if errors.Is(err, unix.EOPNOTSUPP) && name != opaque && name != origin || errors.Is(err, unix.EINVAL) {
		return nil // one that this file system, or the kernel, does not know
	}
	return err
}

package build

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"os"
	"os/user"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"cube/envd/users"
)

// maxEntries bounds what one archive may hold: each file that is written takes
// memory of the sandbox's kernel.
const maxEntries = 1_000_000

// Copy is one COPY.
type Copy struct {
	// Source is what of the archive is copied: a file, a link, or a directory, whose
	// content is. "" or "." is all of it.
	Source string
	// Destination is where to, absolute. With a slash, or "/.", at its end it is a
	// directory; so is one that exists.
	Destination string
	Owner       Owner
	Mode        *os.FileMode // of files and directories; nil for the archive's
}

// From copies what an archive holds: a tar file, as it is or by gzip. A directory
// is merged into what is there: existing directories stay as they are and their
// links are followed, other files are replaced.
func (c Copy) From(archive io.Reader) (entries int, err error) {
	unpacked, err := decompress(archive)
	if err != nil {
		return 0, err
	}
	m := merge{Copy: c, source: inside(c.Source), buffer: make([]byte, 256<<10)}
	r := tar.NewReader(unpacked)
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return m.entries, broken(err)
		}
		if m.seen++; m.seen > maxEntries {
			return m.entries, errorf("the archive holds more than %d files: copy fewer", maxEntries)
		}
		if err := m.add(header, r); err != nil {
			return m.entries, err
		}
	}
	if m.entries == 0 {
		return 0, errorf("source path does not exist: %s", c.Source)
	}
	// Whatever follows the archive's end is read, or its sender would wait.
	_, err = io.Copy(io.Discard, unpacked)
	return m.entries, broken(err)
}

// decompress returns what gzip has compressed, or what it has not.
func decompress(archive io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(archive, 256<<10)
	magic, err := buffered.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, broken(err)
	}
	if len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return buffered, nil
	}
	r, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, broken(err)
	}
	return r, nil
}

func broken(err error) error {
	if err == nil {
		return nil
	}
	return errorf("the uploaded archive cannot be read: %v", err)
}

// inside returns a name in an archive without what leads out of it or nowhere.
func inside(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// below returns what of name follows dir, and whether it is in it or itself.
func below(dir, name string) (string, bool) {
	if dir == "" || dir == name {
		return strings.TrimPrefix(name, dir), true
	}
	return strings.CutPrefix(name, dir+"/")
}

// ParseMode reads a mode as chmod does, octal digits alone.
func ParseMode(s string) (*os.FileMode, error) {
	if s == "" {
		return nil, nil
	}
	bits, err := strconv.ParseUint(s, 8, 12)
	if err != nil {
		return nil, errorf("invalid mode %q: write it as octal digits, for example 0644", s)
	}
	mode := modeOf(int64(bits))
	return &mode, nil
}

// modeOf translates the bits of a mode.
func modeOf(bits int64) os.FileMode {
	mode := os.FileMode(bits & 0o777)
	for bit, flag := range map[int64]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

// ParseOwner reads USER or USER:GROUP, names or numbers. Without a group it is
// the user's own.
func ParseOwner(s string) (Owner, error) {
	name, group, hasGroup := strings.Cut(s, ":")
	var o Owner
	if uid, err := strconv.ParseUint(name, 10, 31); err == nil {
		o = Owner{int(uid), int(uid)}
		if account, err := user.LookupId(name); err == nil {
			if gid, err := strconv.Atoi(account.Gid); err == nil {
				o.GID = gid
			}
		}
	} else {
		u, err := users.Lookup(name)
		if err != nil {
			return Owner{}, errorf("invalid user: '%s'", s)
		}
		o = Owner{int(u.UID), int(u.GID)}
	}
	if !hasGroup {
		return o, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		o.GID = int(gid)
		return o, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return Owner{}, errorf("invalid group: '%s'", s)
	}
	o.GID, err = strconv.Atoi(g.Gid)
	return o, err
}

// Place returns the destination of a COPY as an absolute path, which keeps the
// slash at its end.
func Place(destination, workdir string, u users.User) string {
	isDir := strings.HasSuffix(destination, "/") || path.Base(destination) == "." || path.Base(destination) == ".."
	full := u.Resolve(destination, workdir)
	if isDir && full != "/" {
		full += "/"
	}
	return full
}

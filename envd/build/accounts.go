package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what is believed of the files that say who there is.
const (
	maxAccountsFile = 16 << 20 // bytes
	firstID, lastID = 1000, 59999
)

var accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// accounts are the files below etc that say who there is.
type accounts struct{ root string }

// account is a line of passwd.
type account struct {
	name, home string
	uid, gid   int
}

// find returns the account of a name, false if there is none.
func (a accounts) find(name string) (account, bool, error) {
	lines, err := a.lines("passwd")
	if err != nil {
		return account{}, false, err
	}
	for _, line := range lines {
		f := strings.Split(line, ":")
		if len(f) < 7 || f[0] != name {
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err := errors.Join(err1, err2); err != nil {
			return account{}, false, errorf("/etc/passwd: the numbers of %s cannot be read", name)
		}
		return account{name: name, home: f[5], uid: uid, gid: gid}, true, nil
	}
	return account{}, false, nil
}

// add makes an account with a group of its own and a home that has a copy of
// /etc/skel, as useradd does, unless there is one of that name.
func (a accounts) add(name string) (account, error) {
	found, ok, err := a.find(name)
	if err != nil || ok {
		return found, err
	}
	if !accountName.MatchString(name) {
		return account{}, errorf("invalid user name '%s': it must begin with a letter, and hold a-z, 0-9, - and _ alone", name)
	}
	u := account{name: name, home: "/home/" + name}
	if u.uid, u.gid, err = a.free(name); err != nil {
		return account{}, err
	}
	return u, errors.Join(
		a.append("passwd", fmt.Sprintf("%s:x:%d:%d::%s:/bin/bash", name, u.uid, u.gid, u.home), 0o644),
		a.group(name, u.gid),
		// "*" is no password's hash: nobody signs in with one.
		a.append("shadow", name+":*:19000:0:99999:7:::", 0o640),
		a.makeHome(u),
	)
}

// free returns a user's and a group's number for a new account, the same if that
// can be.
func (a accounts) free(name string) (uid, gid int, err error) {
	var used []int
	gid = -1
	for _, file := range []string{"passwd", "group"} {
		lines, err := a.lines(file)
		if err != nil {
			return 0, 0, err
		}
		for _, line := range lines {
			f := strings.Split(line, ":")
			if len(f) < 3 {
				continue
			}
			id, err := strconv.Atoi(f[2])
			if err != nil {
				continue
			}
			used = append(used, id)
			if file == "group" && f[0] == name {
				gid = id
			}
		}
	}
	for uid = firstID; slices.Contains(used, uid); uid++ {
		if uid == lastID {
			return 0, 0, errorf("/etc/passwd has no number left for another account")
		}
	}
	if gid < 0 {
		gid = uid
	}
	return uid, gid, nil
}

// group makes a group unless there is one of that name.
func (a accounts) group(name string, gid int) error {
	lines, err := a.lines("group")
	if err != nil || slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+":") }) {
		return err
	}
	if err := a.append("group", fmt.Sprintf("%s:x:%d:", name, gid), 0o644); err != nil {
		return err
	}
	if _, err := os.Lstat(a.path("gshadow")); err != nil {
		return nil // not every system has it
	}
	return a.append("gshadow", name+":!::", 0o640)
}

// join makes an account a member of a group that is there.
func (a accounts) join(name, group string) error {
	lines, err := a.lines("group")
	if err != nil {
		return err
	}
	for i, line := range lines {
		f := strings.SplitN(line, ":", 4)
		if len(f) < 4 || f[0] != group {
			continue
		}
		members := strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' })
		if slices.Contains(members, name) {
			return nil
		}
		f[3] = strings.Join(append(members, name), ",")
		lines[i] = strings.Join(f, ":")
		return a.write("group", strings.Join(lines, "\n")+"\n", 0o644)
	}
	return errorf("/etc/group has no group %s", group)
}

// makeHome makes the account's home theirs, with what every new home holds.
func (a accounts) makeHome(u account) error {
	home := filepath.Join(a.root, u.home)
	owner := Owner{u.uid, u.gid}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(home, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chown(home, owner.UID, owner.GID); err != nil {
		return err
	}
	skeleton := filepath.Join(a.root, "etc/skel")
	return filepath.WalkDir(skeleton, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == skeleton {
			return skipMissing(err)
		}
		relative, err := filepath.Rel(skeleton, path)
		if err != nil {
			return err
		}
		return copyEntry(path, filepath.Join(home, relative), entry, owner)
	})
}

func skipMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// copyEntry copies a directory without its content, a file or a link, unless
// something is there.
func copyEntry(from, to string, entry fs.DirEntry, owner Owner) error {
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	switch {
	case entry.IsDir():
		err = os.Mkdir(to, info.Mode().Perm())
	case entry.Type()&fs.ModeSymlink != 0:
		var target string
		if target, err = os.Readlink(from); err == nil {
			err = os.Symlink(target, to)
		}
	case entry.Type().IsRegular():
		var content []byte
		if content, err = readBounded(from); err == nil {
			err = os.WriteFile(to, content, info.Mode().Perm())
		}
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return os.Lchown(to, owner.UID, owner.GID)
}

func (a accounts) path(name string) string { return filepath.Join(a.root, "etc", name) }

// lines returns those of a file that are not empty; none of one that is not there.
func (a accounts) lines(name string) ([]string, error) {
	content, err := readBounded(a.path(name))
	if err != nil {
		return nil, skipMissing(err)
	}
	return strings.FieldsFunc(string(content), func(r rune) bool { return r == '\n' }), nil
}

// append adds a line to a file, and makes it if it is not there.
func (a accounts) append(name, line string, mode os.FileMode) error {
	lines, err := a.lines(name)
	if err != nil {
		return err
	}
	return a.write(name, strings.Join(append(lines, line), "\n")+"\n", mode)
}

func (a accounts) write(name, content string, mode os.FileMode) error {
	return os.WriteFile(a.path(name), []byte(content), mode) // one that is there keeps its own mode
}

// readBounded reads a regular file that is not too large.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxAccountsFile {
		return nil, errorf("%s is no file of at most %d bytes", path, maxAccountsFile)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxAccountsFile))
}

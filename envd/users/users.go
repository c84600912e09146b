// Package users finds the accounts of a sandbox and what a path means to them.
// It reads /etc/passwd and /etc/group each time: code inside may change them.
package users

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// User is an account.
type User struct {
	Name   string
	Home   string // absolute
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
}

// ErrUnknown is the error of an account that is not there.
type ErrUnknown struct{ Name string }

// Error says it in the words that E2B's SDKs pass on.
func (e ErrUnknown) Error() string { return fmt.Sprintf("invalid username: '%s'", e.Name) }

// Lookup finds an account by name.
func Lookup(name string) (User, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return User{}, ErrUnknown{name}
	}
	u := User{Name: found.Username, Home: filepath.Join("/", found.HomeDir)}
	if u.UID, err = number(found.Uid); err != nil {
		return User{}, err
	}
	if u.GID, err = number(found.Gid); err != nil {
		return User{}, err
	}
	groups, err := found.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("groups of %q: %w", name, err)
	}
	for _, group := range groups {
		gid, err := number(group)
		if err != nil {
			return User{}, err
		}
		u.Groups = append(u.Groups, gid)
	}
	return u, nil
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// Resolve returns the absolute path that the user means: "~" is their home, and
// what is relative begins in workdir, or in their home if that is "".
func (u User) Resolve(path, workdir string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		return filepath.Join(u.Home, path[1:])
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	if workdir == "" {
		return filepath.Join(u.Home, path)
	}
	return filepath.Join(u.Resolve(workdir, ""), path)
}

// MakeDirs makes a directory and its parents; those that were not there belong
// to the user. The agent works as root and gives away what it makes: a sandbox
// can trick it through links into nothing that its own root could not do.
func (u User) MakeDirs(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := u.MakeDirs(parent); err != nil {
			return err
		}
	}
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) { // somebody else was faster, or it is a link to nothing
		_, err = os.Stat(dir)
		return err
	}
	if err != nil {
		return err
	}
	return os.Lchown(dir, int(u.UID), int(u.GID))
}

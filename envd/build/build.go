// Package build is the part of a template's build that happens inside a sandbox:
// it makes an image into one that sandboxes can work in, and does the steps that
// need no shell (COPY, USER, WORKDIR). It works as root with nothing but system
// calls, so that an image needs no programs of its own.
//
// What it follows and overwrites is the sandbox's own. It must never be asked by
// anybody but the server: see cube/envd.
package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"cube/envd/users"
)

// Error is a mistake of whoever wrote the build, in words for them.
type Error struct{ message string }

func (e *Error) Error() string { return e.message }

func errorf(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Mistake makes an error one of whoever wrote the build.
func Mistake(err error) error { return &Error{err.Error()} }

// Owner is whom files are given to.
type Owner struct{ UID, GID int }

// MakeDirs makes a directory and its parents; those that were not there belong to
// the owner. It returns whether the directory is new.
func (o Owner) MakeDirs(dir string) (bool, error) {
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return false, nil
	case err == nil:
		return false, errorf("%s is no directory", dir)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return false, plain(dir, err)
	}
	if parent := filepath.Dir(dir); parent != dir {
		if _, err := o.MakeDirs(parent); err != nil {
			return false, err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return false, plain(dir, err)
	}
	return true, plain(dir, os.Lchown(dir, o.UID, o.GID))
}

// MakeWorkdir makes the directory of a WORKDIR, for a user.
func MakeWorkdir(dir, user string) error {
	u, err := users.Lookup(user)
	if err != nil {
		return Mistake(err)
	}
	_, err = Owner{int(u.UID), int(u.GID)}.MakeDirs(filepath.Clean(dir))
	return err
}

// plain says what went wrong with a path inside, without the system call's name.
func plain(path string, err error) error {
	if err == nil {
		return nil
	}
	if cause, ok := errors.AsType[syscall.Errno](err); ok {
		return errorf("%s: %v", path, cause)
	}
	return err
}

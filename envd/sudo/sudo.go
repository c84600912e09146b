// Package sudo stands in for sudo in a base that was made of a machine without
// it: members of the group "sudo" become whom they like, without a password. It
// knows the options that people type, and refuses the others.
//
// It runs with root's rights for whoever calls it, so it must decide who that is
// before anything else, and take nothing from their environment but the few
// variables that it names.
package sudo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"cube/envd/users"
)

// Name is the program's, by which the agent's binary knows that it is meant.
const Name = "sudo"

// group is whose members may.
const group = "sudo"

// securePath is the PATH of what runs, as the base's sudoers has it.
const securePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/cube/bin"

// Main does what the arguments say, for the user who runs this process. It
// returns if that fails, or if there was nothing to run.
func Main(args []string) error {
	caller, err := whoCalls()
	if err != nil {
		return err
	}
	r, err := parse(args)
	if err != nil || r.nothing {
		return err
	}
	target, err := users.Lookup(r.user)
	if err != nil {
		return fmt.Errorf("unknown user %s", r.user)
	}
	if r.group != "" {
		if target.GID, err = lookupGroup(r.group); err != nil {
			return err
		}
	}
	environment := r.environment(os.Environ(), caller, target)
	argv := r.argv(environment["SHELL"])
	if err := become(target); err != nil {
		return err
	}
	if dir := r.dir(target); dir != "" {
		if err := os.Chdir(dir); err != nil {
			return err
		}
	}
	path, err := find(argv[0], environment["PATH"])
	if err != nil {
		return err
	}
	if r.login {
		argv[0] = "-" + filepath.Base(argv[0])
	}
	var list []string
	for name, value := range environment {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, argv, list))
}

// whoCalls returns the account of the caller, if they may.
func whoCalls() (users.User, error) {
	if os.Geteuid() != 0 {
		return users.User{}, errors.New("it must belong to root and have the set-user-ID bit set")
	}
	account, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil {
		return users.User{}, fmt.Errorf("you do not exist in /etc/passwd, number %d", os.Getuid())
	}
	caller, err := users.Lookup(account.Username)
	if err != nil {
		return users.User{}, err
	}
	allowed, err := lookupGroup(group)
	if os.Getuid() != 0 && (err != nil || !slices.Contains(caller.Groups, allowed)) {
		return users.User{}, fmt.Errorf("%s is not in the group %s", caller.Name, group)
	}
	return caller, nil
}

func lookupGroup(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("unknown group %s", name)
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(gid), err
}

// become makes this process the target's, for good.
func become(target users.User) error {
	groups := []int{int(target.GID)}
	for _, gid := range target.Groups {
		groups = append(groups, int(gid))
	}
	return errors.Join(
		syscall.Setgroups(groups),
		syscall.Setresgid(int(target.GID), int(target.GID), int(target.GID)),
		syscall.Setresuid(int(target.UID), int(target.UID), int(target.UID)),
	)
}

// find looks for a command in a PATH, after the rights have changed.
func find(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(path, ":") {
		candidate := filepath.Join(dir, name)
		info, err := os.Stat(candidate)
		if err == nil && info.Mode().IsRegular() && unix.Access(candidate, unix.X_OK) == nil {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("%s: command not found: %w", name, fs.ErrNotExist)
}

package build

import (
	"maps"
	"path"
	"strings"

	"cube"
)

// state is what steps change without a sandbox: who the next step is done as,
// where, and with which environment.
type state struct {
	env           map[string]string
	user, workdir string // workdir is absolute, or "" for the user's home
}

func stateOf(d cube.Defaults) state { return state{maps.Clone(d.EnvVars), d.User, d.Workdir} }

func (s state) defaults() cube.Defaults {
	return cube.Defaults{EnvVars: maps.Clone(s.env), User: s.user, Workdir: s.workdir}
}

// maxEnvironment bounds all variables, in bytes: what a process can be given.
const maxEnvironment = 128 << 10

// set adds a variable of an ENV. It is expanded with those before it, and no
// command in it is run.
func (s *state) set(name, value string) error {
	env := maps.Clone(s.env)
	if env == nil {
		env = map[string]string{}
	}
	env[name] = s.expand(value)
	size := 0
	for name, value := range env {
		size += len(name) + len(value)
	}
	if size > maxEnvironment {
		return failf("ENV %s: all variables together are larger than %d KiB", name, maxEnvironment>>10)
	}
	s.env = env
	return nil
}

// systemPath is where commands are found, whatever a PATH says.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookup returns a variable as a shell of root's would have it: E2B expands in one.
func (s *state) lookup(name string) (string, bool) {
	if value, ok := s.env[name]; ok {
		return value, true
	}
	value, ok := map[string]string{
		"PATH": systemPath, "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash",
	}[name]
	return value, ok
}

// process returns the environment of a command. Of a PATH it takes care that the
// system's directories are in it.
func (s *state) process() map[string]string {
	env := maps.Clone(s.env)
	if p, ok := env["PATH"]; ok {
		env["PATH"] = p + ":" + systemPath
	}
	return env
}

// directory returns the absolute path that a WORKDIR means.
func (s *state) directory(arg string) string {
	dir := s.expand(arg)
	if rest, ok := strings.CutPrefix(dir, "~"); ok && (rest == "" || rest[0] == '/') {
		home := "/home/" + s.user
		if s.user == "root" {
			home = "/root"
		}
		return path.Join(home, rest)
	}
	if path.IsAbs(dir) {
		return path.Clean(dir)
	}
	return path.Join("/", s.workdir, dir)
}

package build

import (
	"context"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Bounds of what a build may ask for.
const (
	maxSteps     = 256
	maxArguments = 256 << 10 // bytes of one step's
)

// step is one that was read and can be done.
type step struct {
	name   string // its number from 1
	kind   string // one of the words below
	args   []string
	hash   string // of a COPY's archive
	forced bool   // it or one before it is to be built whatever was built before
}

// The kinds of steps; ADD is COPY, and ARG is ENV.
const (
	kindCopy    = "COPY"
	kindRun     = "RUN"
	kindEnv     = "ENV"
	kindWorkdir = "WORKDIR"
	kindUser    = "USER"
)

var hashPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// parseSteps reads all steps before the first is done: a mistake in the last one
// is told at once.
func parseSteps(list []Step) ([]step, error) {
	if len(list) > maxSteps {
		return nil, failf("a template may have at most %d steps, and this one has %d: join commands with &&", maxSteps, len(list))
	}
	steps := make([]step, len(list))
	forced := false
	for i, s := range list {
		forced = forced || s.Force
		steps[i] = step{name: strconv.Itoa(i + 1), kind: strings.ToUpper(s.Type), args: s.Args, hash: s.FilesHash, forced: forced}
		if err := steps[i].check(); err != nil {
			return nil, at(steps[i].name, err)
		}
	}
	return steps, nil
}

// check tells mistakes, in E2B's words where it has some.
func (s *step) check() error {
	size := 0
	for _, arg := range s.args {
		if size += len(arg); strings.ContainsRune(arg, 0) {
			return failf("%s: an argument holds a zero byte", s.kind)
		}
	}
	if size > maxArguments {
		return failf("%s: its arguments are larger than %d KiB", s.kind, maxArguments>>10)
	}
	switch s.kind {
	case "ADD":
		s.kind = kindCopy
	case "ARG":
		s.kind = kindEnv
	}
	switch s.kind {
	case kindCopy:
		return s.checkCopy()
	case kindRun:
		if len(s.args) < 1 || strings.TrimSpace(s.args[0]) == "" {
			return failf("RUN requires command argument")
		}
		if len(s.args) > 2 {
			return failf("RUN takes a command and a user, and got %d arguments", len(s.args))
		}
	case kindEnv:
		return s.checkEnv()
	case kindWorkdir:
		if len(s.args) < 1 || s.args[0] == "" {
			return failf("WORKDIR requires a path argument")
		}
	case kindUser:
		if len(s.args) < 1 || s.args[0] == "" {
			return failf("USER requires a username argument")
		}
	default:
		return failf("command type %s is not implemented: steps are COPY, RUN, ENV, WORKDIR and USER", s.kind)
	}
	return nil
}

func (s *step) checkCopy() error {
	switch {
	case len(s.args) < 2 || s.args[0] == "" || s.args[1] == "":
		return failf("COPY requires a local path and a container path argument")
	case len(s.args) > 4:
		return failf("COPY takes a source, a destination, a user and a mode, and got %d arguments", len(s.args))
	case s.hash == "":
		return failf("COPY requires files hash to be set")
	case !hashPattern.MatchString(s.hash):
		return failf("COPY: the files' hash must be 64 hexadecimal digits, and is %q", cut(s.hash))
	}
	return nil
}

func (s *step) checkEnv() error {
	if len(s.args) == 0 {
		return failf("ENV does not support passing no arguments")
	}
	if len(s.args)%2 != 0 {
		return failf("ENV requires both a key and value arguments")
	}
	for i := 0; i < len(s.args); i += 2 {
		if name := s.args[i]; name == "" || strings.Contains(name, "=") {
			return failf("ENV: %q cannot be a variable's name", cut(name))
		}
	}
	return nil
}

// String is the step as it was written.
func (s step) String() string { return s.kind + " " + strings.Join(s.args, " ") }

// isState tells whether the step needs no sandbox.
func (s step) isState() bool { return s.kind == kindEnv }

// change is what the step means for those that follow.
func (s step) change(to *state) error {
	switch s.kind {
	case kindEnv:
		for i := 0; i < len(s.args); i += 2 {
			if err := to.set(s.args[i], s.args[i+1]); err != nil {
				return err
			}
		}
	case kindWorkdir:
		to.workdir = to.directory(s.args[0])
	case kindUser:
		to.user = to.expand(s.args[0])
	}
	return nil
}

// do does it in a sandbox, before it changes the state.
func (s step) do(ctx context.Context, b *build, w *worker, prefix string) error {
	switch s.kind {
	case kindCopy:
		if err := b.copyFiles(ctx, w, s); err != nil {
			return err
		}
		w.trust(ctx, s.name, prefix)
	case kindRun:
		as := b.state
		if len(s.args) == 2 && s.args[1] != "" {
			as.user = s.args[1]
		}
		err := w.run(ctx, command{shell: s.args[0], as: as, out: newOutput(b.log, "info", s.name, prefix), maxOutput: b.MaxOutput})
		if err != nil {
			return err
		}
		w.trust(ctx, s.name, prefix)
	case kindWorkdir:
		return w.ask(ctx, "workdir", agentRequest{Path: b.state.directory(s.args[0]), User: b.state.user}, "failed to create workdir")
	case kindUser:
		sudo := len(s.args) > 1 && s.args[1] == "true"
		return w.ask(ctx, "user", agentRequest{Name: b.state.expand(s.args[0]), Sudo: sudo}, "failed to create user")
	}
	return nil
}

// CopySource returns what of its archive a COPY copies: patterns are matched where the
// archive is made, so it is the directory before the first.
func CopySource(arg string) string {
	parts := strings.Split(path.Clean(arg), "/")
	for i, part := range parts {
		if strings.ContainsAny(part, `*?[{`) {
			return path.Clean(strings.Join(parts[:i], "/"))
		}
	}
	return path.Clean(arg)
}

package build

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestMistakesInSteps(t *testing.T) {
	for _, c := range []struct {
		step Step
		want string
	}{
		{Step{Type: "RUN"}, "RUN requires command argument"},
		{Step{Type: "RUN", Args: []string{"  "}}, "RUN requires command argument"},
		{Step{Type: "RUN", Args: []string{"a", "b", "c"}}, "RUN takes a command and a user, and got 3"},
		{Step{Type: "RUN", Args: []string{"a\x00b"}}, "zero byte"},
		{Step{Type: "RUN", Args: []string{strings.Repeat("x", maxArguments+1)}}, "larger than 256 KiB"},
		{Step{Type: "ENV"}, "ENV does not support passing no arguments"},
		{Step{Type: "ENV", Args: []string{"A"}}, "ENV requires both a key and value arguments"},
		{Step{Type: "ENV", Args: []string{"", "x"}}, "cannot be a variable's name"},
		{Step{Type: "ARG", Args: []string{"A=B", "x"}}, "cannot be a variable's name"},
		{Step{Type: "WORKDIR"}, "WORKDIR requires a path argument"},
		{Step{Type: "WORKDIR", Args: []string{""}}, "WORKDIR requires a path argument"},
		{Step{Type: "USER"}, "USER requires a username argument"},
		{Step{Type: "COPY", Args: []string{"a"}, FilesHash: someHash}, "COPY requires a local path and a container path argument"},
		{Step{Type: "ADD", Args: []string{"a", ""}, FilesHash: someHash}, "COPY requires a local path and a container path argument"},
		{Step{Type: "COPY", Args: []string{"a", "b"}}, "COPY requires files hash to be set"},
		{Step{Type: "COPY", Args: []string{"a", "b"}, FilesHash: "../../etc/passwd"}, "must be 64 hexadecimal digits"},
		{Step{Type: "COPY", Args: []string{"a", "b", "c", "d", "e"}, FilesHash: someHash}, "and got 5 arguments"},
		{Step{Type: "VOLUME", Args: []string{"/a"}}, "command type VOLUME is not implemented"},
		{Step{}, "command type  is not implemented"},
	} {
		_, err := parseSteps([]Step{{Type: "RUN", Args: []string{"true"}}, c.step})
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Failure.Step != "2" || !strings.Contains(e.Failure.Message, c.want) {
			t.Errorf("%.60v: %v, want %q in step 2", c.step, err, c.want)
		}
	}
	if _, err := parseSteps(make([]Step, maxSteps+1)); err == nil || !strings.Contains(err.Error(), "at most 256 steps") {
		t.Errorf("too many steps: %v", err)
	}
}

func TestVariablesAreExpanded(t *testing.T) {
	s := state{env: map[string]string{"A": "1", "B": "b b", "EMPTY": "", "_x9": "x"}}
	for text, want := range map[string]string{
		"":                                    "",
		"plain":                               "plain",
		"$A$B":                                "1b b",
		"${A}2":                               "12",
		"$A2":                                 "",
		"${PATH}:/my/path":                    systemPath + ":/my/path",
		"$HOME":                               "/root",
		"$NONE-":                              "-",
		"${NONE:-word}":                       "word",
		"${EMPTY:-word}":                      "word",
		"${EMPTY-word}":                       "",
		"${A:+set}${NONE:+set}${EMPTY+there}": "setthere",
		"${NONE:-${A}}":                       "1",
		"${NONE:-${NO:-$B}}!":                 "b b!",
		`path\to\file`:                        `path\to\file`,
		`say "hello"`:                         `say "hello"`,
		"`echo pwned`":                        "`echo pwned`",
		"$(echo pwned)":                       "$(echo pwned)",
		"costs 5$":                            "costs 5$",
		"$5 $$ ${ ${} ${A":                    "$5 $$ ${ ${} ${A",
		"${A:?must}":                          "${A:?must}",
		"line1\nline2":                        "line1\nline2",
		"$_x9":                                "x",
		strings.Repeat("${NO:-", 50):          strings.Repeat("${NO:-", 50),
	} {
		if got := s.expand(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestAnEnvironmentCannotGrowForEver(t *testing.T) {
	s := state{}
	err := s.set("A", strings.Repeat("x", 1000))
	for i := 0; i < 100 && err == nil; i++ {
		err = s.set("A", "$A$A")
	}
	if err == nil || !strings.Contains(err.Error(), "larger than 128 KiB") {
		t.Errorf("%v", err)
	}
	// Nor is it made before it is looked at.
	if err := s.set("B", strings.Repeat("$A", 120<<10)); err == nil || !strings.Contains(err.Error(), "larger than 128 KiB") {
		t.Errorf("%v", err)
	}
	long := state{env: map[string]string{"A": strings.Repeat("x", 100<<10)}}
	if n := len(long.expand(strings.Repeat("${B:-$A$A}", 20<<10))); n > 3*maxEnvironment {
		t.Errorf("an argument comes to %d bytes", n)
	}
}

func TestDirectories(t *testing.T) {
	for _, c := range []struct{ user, workdir, arg, want string }{
		{"user", "", "/app", "/app"}, {"user", "", "app", "/app"}, {"user", "/app", "sub/", "/app/sub"}, {"user", "/app", "../x", "/x"},
		{"user", "/app", "/a/../../b", "/b"}, {"user", "/app", "~/x", "/home/user/x"}, {"root", "", "~", "/root"}, {"user", "/app", "~x", "/app/~x"}, {"user", "/app", ".", "/app"},
	} {
		s := state{user: c.user, workdir: c.workdir}
		if got := s.directory(c.arg); got != c.want {
			t.Errorf("%q in %q is %q, want %q", c.arg, c.workdir, got, c.want)
		}
	}
}

func TestSources(t *testing.T) {
	for arg, want := range map[string]string{
		"a": "a", ".": ".", "./a/": "a", "folder/*": "folder", "*.js": ".", "app/**/*.ts": "app", "app/file?.txt": "app", "app/[abc].txt": "app", "a/{b,c}/d": "a", "/app/src/": "/app/src",
	} {
		if got := CopySource(arg); got != want {
			t.Errorf("%q is %q, want %q", arg, got, want)
		}
	}
}

func TestKeysAreOfAllThatMatters(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []struct {
		base string
		step step
	}{
		{"x", step{kind: "RUN", args: []string{"a b"}}}, {"x", step{kind: "RUN", args: []string{"a", "b"}}}, {"x", step{kind: "RUN", args: []string{"a"}, hash: "b"}},
		{"y", step{kind: "RUN", args: []string{"a b"}}}, {"x", step{kind: "USER", args: []string{"a b"}}},
	} {
		key := chain(c.base, []step{c.step})[0]
		if other, ok := seen[key]; ok {
			t.Errorf("%v has the key of %s", c, other)
		}
		seen[key] = c.base + c.step.String()
	}
	a := baseKey("s", "image", "d", state{env: map[string]string{"A": "1"}, user: "u"})
	for _, other := range []string{
		baseKey("t", "image", "d", state{env: map[string]string{"A": "1"}, user: "u"}), baseKey("s", "image", "e", state{env: map[string]string{"A": "1"}, user: "u"}),
		baseKey("s", "image", "d", state{env: map[string]string{"A": "2"}, user: "u"}), baseKey("s", "image", "d", state{user: "u"}),
		baseKey("s", "template", "d", state{env: map[string]string{"A": "1"}, user: "u"}), baseKey("s", "image", "d", state{env: map[string]string{"A": "1"}, user: "v"}),
	} {
		if other == a {
			t.Error("two bases have one key")
		}
	}
}

func FuzzExpandEnds(f *testing.F) {
	f.Add("${A:-${B:+$C}}$D")
	f.Fuzz(func(t *testing.T, text string) {
		s := state{env: map[string]string{"A": "1"}}
		if got := s.expand(text); !strings.Contains(text, "$") && got != text {
			t.Errorf("%q became %q", text, got)
		}
	})
}

// TestAuthoritiesAreTrusted: those that a step or a start command has put beside
// the others.
func TestAuthoritiesAreTrusted(t *testing.T) {
	w := newWorld(t)
	w.uploads["team "+someHash] = "an archive"
	spec := Spec{Scope: "team", From: "debian:12", StartCmd: "serve", ReadyCmd: "true", Steps: []Step{
		{Type: "COPY", Args: []string{"a", "b"}, FilesHash: someHash}, {Type: "RUN", Args: []string{"first"}}, {Type: "ENV", Args: []string{"A", "b"}},
	}}
	updates := func() (n int) {
		for _, c := range w.commands {
			if strings.Contains(c.command, "exec update-ca-certificates") && c.user == "root" && c.cwd == "/" {
				n++
			}
		}
		return n
	}
	w.mustBuild(spec)
	if n := updates(); n != 0 {
		t.Errorf("without any, they were updated %d times", n)
	}
	w.places.files = map[string]string{localAuthorities: "own.crt"}
	spec.Force = true
	w.mustBuild(spec)
	if n := updates(); n != 3 {
		t.Errorf("after two steps and a start command they were updated %d times", n)
	}
	w.run = func(_ context.Context, c ran, _ func(string)) (string, error) {
		if strings.Contains(c.command, "update-ca-certificates") {
			return "exit status 1", nil
		}
		return "exit status 0", nil
	}
	w.mustBuild(spec)
	if !strings.Contains(w.logged(), "1 warn: [builder 1/3] update-ca-certificates failed") {
		t.Errorf("the log does not say what failed:\n%s", w.logged())
	}
}

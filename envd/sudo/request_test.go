package sudo

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cube/envd/users"
)

func TestArguments(t *testing.T) {
	for line, want := range map[string]request{
		"whoami":                        {user: "root", command: []string{"whoami"}},
		"-u www-data id -u":             {user: "www-data", command: []string{"id", "-u"}},
		"-uuser -nE id":                 {user: "user", keepAll: true, homeless: true, command: []string{"id"}},
		"-EH -- -x":                     {user: "root", keepAll: true, command: []string{"-x"}},
		"--user=user --group=staff id":  {user: "user", group: "staff", command: []string{"id"}},
		"--user user A=b C= ./a=b":      {user: "user", set: []string{"A=b", "C="}, command: []string{"./a=b"}},
		"--preserve-env=A,B env":        {user: "root", keep: []string{"A", "B"}, command: []string{"env"}},
		"-i":                            {user: "root", login: true},
		"-s echo x":                     {user: "root", shell: true, command: []string{"echo", "x"}},
		"-n -v":                         {user: "root", nothing: true},
		"-S -p prompt: -D /tmp make -k": {user: "root", workdir: "/tmp", command: []string{"make", "-k"}},
	} {
		got, err := parse(strings.Fields(line))
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(request{}), cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("sudo %s: %v\n%s", line, err, diff)
		}
	}
	for _, line := range []string{"", "-u", "-l", "--askpass=x -Z id", "-E", "A=b"} {
		if got, err := parse(strings.Fields(line)); err == nil {
			t.Errorf("sudo %s is taken for %+v", line, got)
		}
	}
}

func FuzzNoArgumentsBreakIt(f *testing.F) {
	f.Add("-uuser\x00-nE\x00id")
	f.Add("--user=\x00-\x00=\x00--")
	f.Fuzz(func(_ *testing.T, line string) {
		r, err := parse(strings.Split(line, "\x00"))
		if err == nil && !r.nothing && len(r.argv("/bin/sh")) == 0 {
			panic("neither a command nor an error")
		}
	})
}

func TestVariablesOfTheCallerStayOutside(t *testing.T) {
	caller, target := users.User{Name: "user", UID: 1000, GID: 1000, Home: "/home/user"}, users.User{Name: "root", Home: "/root"}
	callers := []string{"SECRET=x", "LD_PRELOAD=/tmp/evil.so", "TERM=xterm", "LC_ALL=C", "HOME=/home/user", "PATH=/tmp", "WANTED=1"}
	r := request{user: "root", command: []string{"make", "all"}, set: []string{"A=b=c"}, keep: []string{"WANTED"}}
	want := map[string]string{
		"TERM": "xterm", "LC_ALL": "C", "HOME": "/root", "PATH": securePath, "USER": "root", "LOGNAME": "root", "WANTED": "1", "A": "b=c",
		"SUDO_USER": "user", "SUDO_UID": "1000", "SUDO_GID": "1000", "SUDO_COMMAND": "make all",
	}
	got := r.environment(callers, caller, target)
	delete(got, "SHELL") // the machine's
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	r = request{user: "root", keepAll: true, homeless: true, command: []string{"env"}}
	got = r.environment(callers, caller, target)
	if got["SECRET"] != "x" || got["HOME"] != "/home/user" || got["PATH"] != securePath {
		t.Errorf("with -E: %v", got)
	}
}

func TestAShellSeesWords(t *testing.T) {
	got := request{login: true, command: []string{"echo", "it's $HOME", ";"}}.argv("/bin/bash")
	if diff := cmp.Diff([]string{"/bin/bash", "-c", `echo it\'s\ $HOME \;`}, got); diff != "" {
		t.Error(diff)
	}
}

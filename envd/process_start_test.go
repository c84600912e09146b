package envd

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	pb "cube/envd/gen/process"
)

func TestTheEnvironmentIsLayered(t *testing.T) {
	a := start(t, func(r *initRequest) {
		r.SandboxID = "i0123456789abcdefghij"
		r.EnvVars = map[string]string{"GLOBAL": "global", "BOTH": "global", "LOGNAME": "renamed"}
	})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	r := shell("echo $GLOBAL,$BOTH,$OWN,$E2B_SANDBOX,$E2B_SANDBOX_ID,$USER,$LOGNAME,$HOME,$PATH; pwd")
	r.Process.Envs = map[string]string{"BOTH": "own", "OWN": "own"}
	f := a.start(t.Context(), r)
	f.finish()
	want := "global,own,own,true,i0123456789abcdefghij," + me.Username + ",renamed," + me.HomeDir +
		",/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/cube/bin\n" + me.HomeDir + "\n"
	if diff := cmp.Diff(want, f.printed.String()); diff != "" {
		t.Error(diff)
	}
	if got := a.run("echo $OWN").printed.String(); got != "\n" {
		t.Errorf("the next process sees the variables of the one before: %q", got)
	}
	t.Setenv("SECRET_OF_THE_AGENT", "x")
	if got := a.run("env").printed.String(); strings.Contains(got, "SECRET_OF_THE_AGENT") {
		t.Error("a process sees the agent's own environment")
	}
}

func TestACommandIsLookedForInItsOwnPath(t *testing.T) {
	a := start(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "greet"), []byte("#!/bin/sh\necho hello $0 $1"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]*pb.ProcessConfig{
		"by an absolute PATH":         {Cmd: "greet", Envs: map[string]string{"PATH": dir}},
		"by a PATH relative to cwd":   {Cmd: "greet", Envs: map[string]string{"PATH": "."}, Cwd: &dir},
		"by a name relative to cwd":   {Cmd: "./greet", Cwd: &dir},
		"by its absolute name itself": {Cmd: filepath.Join(dir, "greet")},
	} {
		config.Args = []string{"you"}
		f := a.start(t.Context(), &pb.StartRequest{Process: config})
		if f.finish(); !strings.HasPrefix(f.printed.String(), "hello ") || !strings.HasSuffix(f.printed.String(), "greet you\n") {
			t.Errorf("%s: it printed %q", name, f.printed.String())
		}
	}
}

func TestCommandsRunAsTheUserThatIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run commands as another user")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	a := start(t)
	root := "/"
	r := shell("id -u; id -g; echo $USER; cat /etc/shadow 2>/dev/null")
	r.Process.Cwd = &root
	request := connect.NewRequest(r)
	request.Header().Set("Authorization", "Basic bm9ib2R5Og==") // "nobody:"
	stream, err := a.processes.Start(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	f := begun(t, stream, func() *pb.ProcessEvent { return stream.Msg().GetEvent() })
	f.finish()
	if diff := cmp.Diff(nobody.Uid+"\n"+nobody.Gid+"\nnobody\n", f.printed.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatCannotBeStartedIsRefusedWithTheReason(t *testing.T) {
	a := start(t)
	missing := "/no/such/directory"
	for name, c := range map[string]struct {
		config  *pb.ProcessConfig
		user    string
		code    connect.Code
		message string
	}{
		"a missing cwd":    {&pb.ProcessConfig{Cmd: "true", Cwd: &missing}, "", connect.CodeInvalidArgument, "cwd '/no/such/directory' does not exist"},
		"an unknown user":  {&pb.ProcessConfig{Cmd: "true"}, "bm9zdWNodXNlcjo=", connect.CodeUnauthenticated, "invalid username: 'nosuchuser'"},
		"no command":       {&pb.ProcessConfig{}, "", connect.CodeInvalidArgument, "no command is given: 'process.cmd' is empty"},
		"no request":       {nil, "", connect.CodeInvalidArgument, "no command is given: 'process.cmd' is empty"},
		"a missing name":   {&pb.ProcessConfig{Cmd: "no-such-command"}, "", connect.CodeInvalidArgument, "command 'no-such-command' is not in the PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/cube/bin"},
		"a missing file":   {&pb.ProcessConfig{Cmd: "/no/such/file"}, "", connect.CodeInvalidArgument, `starting "/no/such/file": fork/exec /no/such/file: no such file or directory`},
		"a zero in a name": {&pb.ProcessConfig{Cmd: "/bin/true", Args: []string{"a\x00b"}}, "", connect.CodeInvalidArgument, `starting "/bin/true": fork/exec /bin/true: invalid argument`},
	} {
		r := connect.NewRequest(&pb.StartRequest{Process: c.config})
		if c.user != "" {
			r.Header().Set("Authorization", "Basic "+c.user)
		}
		stream, err := a.processes.Start(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for stream.Receive() {
			t.Errorf("%s: it started", name)
		}
		err = stream.Err()
		_ = stream.Close()
		if connect.CodeOf(err) != c.code || !strings.HasSuffix(err.Error(), c.message) {
			t.Errorf("%s: %v, want %v: %s", name, err, c.code, c.message)
		}
	}
}

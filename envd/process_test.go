package envd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	pb "cube/envd/gen/process"
)

func TestAProcessEndsWithItsStatus(t *testing.T) {
	a := start(t)
	type end struct {
		Code   int32
		Exited bool
		Status string
		Error  string
	}
	for script, want := range map[string]end{
		"true":        {0, true, "exit status 0", ""},
		"exit 3":      {3, true, "exit status 3", "exit status 3"},
		"kill -9 $$":  {-1, false, "signal: killed", "signal: killed"},
		"kill -15 $$": {-1, false, "signal: terminated", "signal: terminated"},
	} {
		e := a.run(script).end
		if diff := cmp.Diff(want, end{e.GetExitCode(), e.GetExited(), e.GetStatus(), e.GetError()}); diff != "" {
			t.Errorf("%s: %s", script, diff)
		}
	}
}

func TestOutputComesWholeAndApart(t *testing.T) {
	a := start(t)
	f := a.run("seq 1 200000; echo problem >&2")
	var want bytes.Buffer
	for i := 1; i <= 200000; i++ {
		fmt.Fprintln(&want, i)
	}
	if !bytes.Equal(f.printed.Bytes(), want.Bytes()) {
		t.Errorf("of %d bytes %d came, or not in order", want.Len(), f.printed.Len())
	}
	if got := f.errors.String(); got != "problem\n" {
		t.Errorf("standard error is %q", got)
	}
}

func TestAHundredProcessesAtOnceKeepTheirEndsApart(t *testing.T) {
	a := start(t)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			stream, err := a.processes.Start(t.Context(), connect.NewRequest(shell(fmt.Sprintf("echo %d; exit %d", i, i))))
			if err != nil {
				t.Error(err)
				return
			}
			defer stream.Close()
			var printed string
			code := int32(-2)
			for stream.Receive() {
				printed += string(stream.Msg().GetEvent().GetData().GetStdout())
				if end := stream.Msg().GetEvent().GetEnd(); end != nil {
					code = end.GetExitCode()
				}
			}
			if code != int32(i) || printed != fmt.Sprintln(i) || stream.Err() != nil {
				t.Errorf("process %d printed %q and ended with %d, %v", i, printed, code, stream.Err())
			}
		})
	}
	all.Wait()
}

func TestTheDeadlineKillsTheProcess(t *testing.T) {
	a := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	t.Run("and the stream says so", func(t *testing.T) {
		stream := a.startFor(ctx, shell("sleep 1000 & sleep 1000"), "300")
		for stream.Receive() {
		}
		if connect.CodeOf(stream.Err()) != connect.CodeDeadlineExceeded {
			t.Errorf("the stream ends with %v", stream.Err())
		}
		if pids := a.pids(); len(pids) != 0 {
			t.Errorf("%v still run", pids)
		}
	})
	t.Run("also after the client went away", func(t *testing.T) {
		stream := a.startFor(ctx, shell("sleep 1000"), "300")
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		pid := stream.Msg().GetEvent().GetStart().GetPid()
		_ = stream.Close()
		if end := a.connect(pid).finish(); end.GetError() != "signal: killed" {
			t.Errorf("it ended with %v", end)
		}
	})
	t.Run("also while nobody reads what it prints", func(t *testing.T) {
		stream := a.startFor(ctx, shell("yes"), "300")
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		eventually(t, "it is killed", func() bool { return isGone(int(stream.Msg().GetEvent().GetStart().GetPid())) })
	})
	t.Run("but not one that has ended before", func(t *testing.T) {
		stream := a.startFor(ctx, shell("exit 4"), "30000")
		var code int32
		for stream.Receive() {
			code = stream.Msg().GetEvent().GetEnd().GetExitCode()
		}
		if code != 4 || stream.Err() != nil {
			t.Errorf("it ended with %d, the stream with %v", code, stream.Err())
		}
	})
}

// startFor starts a process that may run for so many milliseconds, with a client
// that would wait longer.
func (a *agent) startFor(ctx context.Context, r *pb.StartRequest, milliseconds string) *connect.ServerStreamForClient[pb.StartResponse] {
	a.t.Helper()
	// connect's client sets the header from its context; only a transport can
	// set another.
	slow := *a.http
	slow.Transport = headerSetter{a.http.Transport, "Connect-Timeout-Ms", milliseconds}
	stream, err := newProcessClient(&slow, a.url).Start(ctx, connect.NewRequest(r))
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = stream.Close() })
	return stream
}

func TestAProcessOutlivesTheClientThatStartedIt(t *testing.T) {
	a := start(t)
	ctx, leave := context.WithCancel(t.Context())
	f := a.start(ctx, withInput(shell("echo begun; read line; echo got $line; exit 5")))
	f.until("begun")
	leave()
	if diff := cmp.Diff([]uint32{f.pid}, a.pids()); diff != "" {
		t.Fatalf("the list of processes: %s", diff)
	}
	again := a.connect(f.pid)
	if err := a.send(f.pid, stdinOf("news\n")); err != nil {
		t.Fatal(err)
	}
	if end := again.finish(); end.GetExitCode() != 5 || again.printed.String() != "got news\n" {
		t.Errorf("the second client got %q and %v", again.printed.String(), end)
	}
	if pids := a.pids(); len(pids) != 0 {
		t.Errorf("%v are listed after their end", pids)
	}
	if end := a.connect(f.pid).finish(); end.GetExitCode() != 5 {
		t.Errorf("a third client, after the end, got %v", end)
	}
}

func TestAProcessThatNobodyFollowsIsNotHeldUpByItsOutput(t *testing.T) {
	a := start(t)
	written := filepath.Join(t.TempDir(), "written")
	ctx, leave := context.WithCancel(t.Context())
	f := a.start(ctx, withInput(shell("read go; seq 1 2000000; echo yes >"+written)))
	leave()
	eventually(t, "the input is taken", func() bool { return a.send(f.pid, stdinOf("go\n")) == nil })
	eventually(t, "it has printed all", func() bool { _, err := os.Stat(written); return err == nil })
}

func TestWhatAProcessLeavesBehindDelaysNothingAndLives(t *testing.T) {
	a := start(t)
	dir := t.TempDir()
	gate, done := filepath.Join(dir, "gate"), filepath.Join(dir, "done")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	f := a.run("{ read line <" + gate + "; seq 1 100000 && echo yes >" + done + "; } & echo first")
	if f.printed.String() != "first\n" || f.end.GetExitCode() != 0 {
		t.Errorf("it printed %q and ended with %v", f.printed.String(), f.end)
	}
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the one left behind has printed and gone on", func() bool { _, err := os.Stat(done); return err == nil })
}

func TestWhatAProcessLeavesBehindCannotKeepItsStreamOpen(t *testing.T) {
	a := start(t)
	written := filepath.Join(t.TempDir(), "pid")
	a.run("yes & echo $! >" + written) // prints and prints
	var pid int
	if _, err := fmt.Sscan(read(t, written), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("it did not outlive the process: %v", err)
	}
}

func TestASilentStreamSaysThatItLives(t *testing.T) {
	a := start(t)
	r := connect.NewRequest(withInput(shell("read line")))
	r.Header().Set("Keepalive-Ping-Interval", "1")
	stream, err := a.processes.Start(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	f := begun(t, stream, func() *pb.ProcessEvent { return stream.Msg().GetEvent() })
	for f.beats == 0 {
		if !f.next() {
			t.Fatalf("the stream ended with %v", stream.Err())
		}
	}
	if err := a.closeStdin(f.pid); err != nil {
		t.Fatal(err)
	}
	f.finish()
}

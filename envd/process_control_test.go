package envd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
)

func TestStandardInput(t *testing.T) {
	a := start(t)
	t.Run("is what is sent, until it is closed", func(t *testing.T) {
		f := a.start(t.Context(), withInput(shell("cat; echo over")))
		for _, text := range []string{"one\n", "", "zwei – 二\n"} {
			if err := a.send(f.pid, stdinOf(text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.closeStdin(f.pid); err != nil {
			t.Fatal(err)
		}
		if f.finish(); f.printed.String() != "one\nzwei – 二\nover\n" {
			t.Errorf("it read %q", f.printed.String())
		}
	})
	t.Run("is at its end if none was asked for", func(t *testing.T) {
		if f := a.run("cat; echo over"); f.printed.String() != "over\n" {
			t.Errorf("it printed %q", f.printed.String())
		}
	})
	t.Run("can be streamed", func(t *testing.T) {
		f := a.start(t.Context(), withInput(shell("read a; read b; echo $b $a")))
		stream := a.processes.StreamInput(t.Context())
		for _, m := range []*pb.StreamInputRequest{
			{Event: &pb.StreamInputRequest_Start{Start: &pb.StreamInputRequest_StartEvent{Process: byPid(f.pid)}}},
			{Event: &pb.StreamInputRequest_Keepalive{Keepalive: &pb.StreamInputRequest_KeepAlive{}}},
			{Event: &pb.StreamInputRequest_Data{Data: &pb.StreamInputRequest_DataEvent{Input: stdinOf("first\n")}}},
			{Event: &pb.StreamInputRequest_Data{Data: &pb.StreamInputRequest_DataEvent{Input: stdinOf("second\n")}}},
		} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := stream.CloseAndReceive(); err != nil {
			t.Fatal(err)
		}
		if f.finish(); f.printed.String() != "second first\n" {
			t.Errorf("it printed %q", f.printed.String())
		}
	})
	t.Run("can be closed twice, and takes nothing then", func(t *testing.T) {
		f := a.start(t.Context(), withInput(shell("sleep 1000")))
		for range 2 {
			if err := a.closeStdin(f.pid); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.send(f.pid, stdinOf("text")); connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("input after the end is answered with %v", err)
		}
		if err := a.signal(f.pid, pb.Signal_SIGNAL_SIGKILL); err != nil {
			t.Fatal(err)
		}
		f.finish()
	})
	t.Run("that is not read holds up its sender until they give up", func(t *testing.T) {
		gate := filepath.Join(t.TempDir(), "gate")
		if err := syscall.Mkfifo(gate, 0o600); err != nil {
			t.Fatal(err)
		}
		f := a.start(t.Context(), withInput(shell("read line <"+gate+"; tail -c 5")))
		ctx, giveUp := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer giveUp()
		more := stdinOf(strings.Repeat("x", 4<<20)) // than what a pipe holds
		_, err := a.processes.SendInput(ctx, connect.NewRequest(&pb.SendInputRequest{Process: byPid(f.pid), Input: more}))
		if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			t.Errorf("the sender's call ends with %v", err)
		}
		if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
			t.Fatal(err)
		}
		if err := a.send(f.pid, stdinOf("after")); err != nil {
			t.Fatal(err)
		}
		if err := a.closeStdin(f.pid); err != nil {
			t.Fatal(err)
		}
		if f.finish(); f.printed.String() != "after" {
			t.Errorf("the input ends with %q", f.printed.String())
		}
	})
}

func TestATerminal(t *testing.T) {
	a := start(t)
	r := withInput(shell("stty size; read line; stty size; echo got $line; tty -s && exit 7"))
	r.Pty = &pb.PTY{Size: &pb.PTY_Size{Cols: 100, Rows: 30}}
	f := a.start(t.Context(), r)
	f.until("30 100")
	resize := &pb.UpdateRequest{Process: byPid(f.pid), Pty: &pb.PTY{Size: &pb.PTY_Size{Cols: 132, Rows: 50}}}
	if _, err := a.processes.Update(t.Context(), connect.NewRequest(resize)); err != nil {
		t.Fatal(err)
	}
	if err := a.send(f.pid, stdinOf("text\n")); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("standard input for a terminal is answered with %v", err)
	}
	if err := a.closeStdin(f.pid); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("closing the standard input of a terminal is answered with %v", err)
	}
	if err := a.send(f.pid, ptyOf("text\n")); err != nil {
		t.Fatal(err)
	}
	f.until("50 132")
	f.until("got text")
	if end := f.finish(); end.GetExitCode() != 7 {
		t.Errorf("it is no terminal to its process, which ended with %v", end)
	}
}

func TestSignalsReachTheWholeGroup(t *testing.T) {
	a := start(t)
	for s, want := range map[pb.Signal]string{
		pb.Signal_SIGNAL_SIGTERM: "signal: terminated",
		pb.Signal_SIGNAL_SIGKILL: "signal: killed",
	} {
		f := a.start(t.Context(), shell("sleep 1000 & echo child $!; wait"))
		f.until("\n")
		var child int
		if _, err := fmt.Sscanf(f.printed.String(), "child %d", &child); err != nil {
			t.Fatal(err)
		}
		if err := a.signal(f.pid, s); err != nil {
			t.Fatal(err)
		}
		if end := f.finish(); end.GetError() != want {
			t.Errorf("%v ends it with %v", s, end)
		}
		eventually(t, "its child is dead", func() bool { return isGone(child) })
		if err := a.signal(f.pid, s); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("a signal to a process that has ended is answered with %v", err)
		}
	}
}

// isGone tells whether a process has ended, collected or not.
func isGone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func TestAProcessIsFoundByItsTag(t *testing.T) {
	a := start(t)
	tag := "server"
	r := withInput(shell("cat"))
	r.Tag = &tag
	f := a.start(t.Context(), r)
	selector := &pb.ProcessSelector{Selector: &pb.ProcessSelector_Tag{Tag: tag}}
	if _, err := a.processes.SendInput(t.Context(), connect.NewRequest(&pb.SendInputRequest{Process: selector, Input: stdinOf("hi\n")})); err != nil {
		t.Fatal(err)
	}
	f.until("hi\n")
	if _, err := a.processes.CloseStdin(t.Context(), connect.NewRequest(&pb.CloseStdinRequest{Process: selector})); err != nil {
		t.Fatal(err)
	}
	f.finish()
}

func TestAProcessThatIsNotThereIsNotFound(t *testing.T) {
	a := start(t)
	const nobody = 1 << 30
	stream, err := a.processes.Connect(t.Context(), connect.NewRequest(&pb.ConnectRequest{Process: byPid(nobody)}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for stream.Receive() {
		t.Error("the stream of no process holds something")
	}
	_, updating := a.processes.Update(t.Context(), connect.NewRequest(&pb.UpdateRequest{Process: byPid(nobody)}))
	for name, err := range map[string]error{
		"Connect": stream.Err(), "Update": updating, "SendInput": a.send(nobody, stdinOf("x")),
		"CloseStdin": a.closeStdin(nobody), "SendSignal": a.signal(nobody, pb.Signal_SIGNAL_SIGKILL),
	} {
		if connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("%s ends with %v", name, err)
		}
	}
	if _, err := a.processes.Update(t.Context(), connect.NewRequest(&pb.UpdateRequest{})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a request that names no process ends with %v", err)
	}
}

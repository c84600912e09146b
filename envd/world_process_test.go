package envd

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
)

// shell is a request for a script, with standard input closed as the SDKs'
// commands have it.
func shell(script string) *pb.StartRequest {
	stdin := false
	return &pb.StartRequest{Process: &pb.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: &stdin}
}

// withInput lets a request's process have a standard input.
func withInput(r *pb.StartRequest) *pb.StartRequest {
	r.Stdin = nil // the server's default is to have one
	return r
}

// events is one stream of a process, from Start or from Connect.
type events interface {
	Receive() bool
	Err() error
	Close() error
}

// following reads the stream of one process.
type following struct {
	t       *testing.T
	stream  events
	event   func() *pb.ProcessEvent
	pid     uint32
	printed bytes.Buffer // standard output, or a terminal's
	errors  bytes.Buffer
	end     *pb.ProcessEvent_EndEvent
	beats   int // keepalives
}

func (a *agent) start(ctx context.Context, r *pb.StartRequest) *following {
	a.t.Helper()
	stream, err := a.processes.Start(ctx, connect.NewRequest(r))
	if err != nil {
		a.t.Fatal(err)
	}
	return begun(a.t, stream, func() *pb.ProcessEvent { return stream.Msg().GetEvent() })
}

func (a *agent) connect(pid uint32) *following {
	a.t.Helper()
	stream, err := a.processes.Connect(a.t.Context(), connect.NewRequest(&pb.ConnectRequest{Process: byPid(pid)}))
	if err != nil {
		a.t.Fatal(err)
	}
	return begun(a.t, stream, func() *pb.ProcessEvent { return stream.Msg().GetEvent() })
}

// begun reads the first event, which must be the start.
func begun(t *testing.T, stream events, event func() *pb.ProcessEvent) *following {
	t.Helper()
	t.Cleanup(func() { _ = stream.Close() })
	f := &following{t: t, stream: stream, event: event}
	if !f.next() || f.pid == 0 {
		t.Fatalf("the stream does not begin with a start: %v", stream.Err())
	}
	return f
}

func (f *following) next() bool {
	if !f.stream.Receive() {
		return false
	}
	switch e := f.event().GetEvent().(type) {
	case *pb.ProcessEvent_Start:
		f.pid = e.Start.GetPid()
	case *pb.ProcessEvent_Data:
		f.printed.Write(e.Data.GetStdout())
		f.printed.Write(e.Data.GetPty())
		f.errors.Write(e.Data.GetStderr())
	case *pb.ProcessEvent_End:
		f.end = e.End
	case *pb.ProcessEvent_Keepalive:
		f.beats++
	}
	return true
}

// until reads on until the process has printed a text.
func (f *following) until(text string) {
	f.t.Helper()
	for !strings.Contains(f.printed.String(), text) {
		if !f.next() {
			f.t.Fatalf("the stream ended with %v before %q was printed: %q", f.stream.Err(), text, f.printed.String())
		}
	}
}

// finish reads to the end and returns it.
func (f *following) finish() *pb.ProcessEvent_EndEvent {
	f.t.Helper()
	for f.next() {
	}
	if err := f.stream.Err(); err != nil || f.end == nil {
		f.t.Fatalf("the stream ended with %v, the process with %v", err, f.end)
	}
	return f.end
}

// run runs a script to its end.
func (a *agent) run(script string) *following {
	a.t.Helper()
	f := a.start(a.t.Context(), shell(script))
	f.finish()
	return f
}

func byPid(pid uint32) *pb.ProcessSelector {
	return &pb.ProcessSelector{Selector: &pb.ProcessSelector_Pid{Pid: pid}}
}

func stdinOf(text string) *pb.ProcessInput {
	return &pb.ProcessInput{Input: &pb.ProcessInput_Stdin{Stdin: []byte(text)}}
}

func ptyOf(text string) *pb.ProcessInput {
	return &pb.ProcessInput{Input: &pb.ProcessInput_Pty{Pty: []byte(text)}}
}

func (a *agent) send(pid uint32, input *pb.ProcessInput) error {
	_, err := a.processes.SendInput(a.t.Context(), connect.NewRequest(&pb.SendInputRequest{Process: byPid(pid), Input: input}))
	return err
}

func (a *agent) closeStdin(pid uint32) error {
	_, err := a.processes.CloseStdin(a.t.Context(), connect.NewRequest(&pb.CloseStdinRequest{Process: byPid(pid)}))
	return err
}

func (a *agent) signal(pid uint32, s pb.Signal) error {
	_, err := a.processes.SendSignal(a.t.Context(), connect.NewRequest(&pb.SendSignalRequest{Process: byPid(pid), Signal: s}))
	return err
}

func (a *agent) pids() []uint32 {
	a.t.Helper()
	list, err := a.processes.List(a.t.Context(), connect.NewRequest(&pb.ListRequest{}))
	if err != nil {
		a.t.Fatal(err)
	}
	var pids []uint32
	for _, p := range list.Msg.GetProcesses() {
		pids = append(pids, p.GetPid())
	}
	return pids
}

// eventually waits for what happens in processes that nobody can wait for.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !happened(); {
		if time.Now().After(deadline) {
			t.Fatalf("in 20 seconds it did not come true that %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

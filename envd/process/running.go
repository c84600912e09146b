package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	pb "cube/envd/gen/process"
)

// Output is read in chunks of at most these many bytes, as E2B's agent does.
const (
	pipeChunk     = 32 << 10
	terminalChunk = 16 << 10
)

// running is a process from its start until it is forgotten, some time after
// its end.
type running struct {
	info    *pb.ProcessInfo
	cmd     *exec.Cmd
	input   *os.File // its terminal, or the pipe to its standard input; nil for neither
	hasTTY  bool
	outputs []output

	inputMu sync.Mutex // held while input is written, so that writers do not mix

	audience audience

	done chan struct{}             // closed once it has ended and its output was passed on
	end  *pb.ProcessEvent_EndEvent // valid after done
}

// output is one stream that a process writes.
type output struct {
	file *os.File
	wrap func([]byte) *pb.ProcessEvent_DataEvent
	size int
}

func stdout(b []byte) *pb.ProcessEvent_DataEvent {
	return &pb.ProcessEvent_DataEvent{Output: &pb.ProcessEvent_DataEvent_Stdout{Stdout: b}}
}

func stderr(b []byte) *pb.ProcessEvent_DataEvent {
	return &pb.ProcessEvent_DataEvent{Output: &pb.ProcessEvent_DataEvent_Stderr{Stderr: b}}
}

func terminal(b []byte) *pb.ProcessEvent_DataEvent {
	return &pb.ProcessEvent_DataEvent{Output: &pb.ProcessEvent_DataEvent_Pty{Pty: b}}
}

// begin starts the command with a terminal of the given size, or with pipes.
func (p *running) begin(kids *children, size *pb.PTY_Size, stdin bool) error {
	return kids.start(func() (*exec.Cmd, error) {
		if size != nil {
			return p.cmd, p.startWithTerminal(size)
		}
		return p.cmd, p.startWithPipes(stdin)
	})
}

func (p *running) startWithTerminal(size *pb.PTY_Size) error {
	master, slave, err := pty.Open()
	if err != nil {
		return err
	}
	defer slave.Close()
	if err := pty.Setsize(master, winsize(size)); err != nil {
		_ = master.Close()
		return err
	}
	// The user may open the terminal by its name, as programs that ask for a
	// password do.
	if credential := p.cmd.SysProcAttr.Credential; credential != nil {
		_ = slave.Chown(int(credential.Uid), -1)
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr.Setsid, p.cmd.SysProcAttr.Setctty = true, true
	if err := p.cmd.Start(); err != nil {
		_ = master.Close()
		return err
	}
	p.input, p.hasTTY = master, true
	p.outputs = []output{{master, terminal, terminalChunk}}
	return nil
}

func (p *running) startWithPipes(stdin bool) (err error) {
	var ours, theirs []*os.File
	defer func() {
		closeAll(theirs)
		if err != nil {
			closeAll(ours)
		}
	}()
	pipe := func() (r, w *os.File) {
		r, w, e := os.Pipe()
		err = errors.Join(err, e)
		return r, w
	}
	outR, outW := pipe()
	errR, errW := pipe()
	ours, theirs = []*os.File{outR, errR}, []*os.File{outW, errW}
	var inR, inW *os.File
	if stdin {
		inR, inW = pipe()
		ours, theirs = append(ours, inW), append(theirs, inR)
		p.cmd.Stdin = inR
	}
	if err != nil {
		return err
	}
	p.cmd.Stdout, p.cmd.Stderr = outW, errW
	p.cmd.SysProcAttr.Setpgid = true
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.input = inW
	p.outputs = []output{{outR, stdout, pipeChunk}, {errR, stderr, pipeChunk}}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// follow passes the output on and returns when the process has ended.
//
// It does not wait for the end of the output: a process that was put into the
// background may hold the pipes open for hours. What is in them when the
// process ends is passed on.
func (p *running) follow(kids *children) {
	var pumps sync.WaitGroup
	ended := make(chan struct{})
	for _, out := range p.outputs {
		pumps.Go(func() { p.pump(out, ended) })
	}
	kids.wait(p.cmd)
	close(ended)
	for _, out := range p.outputs {
		_ = out.file.SetReadDeadline(time.Unix(1, 0)) // wakes a pump that waits
	}
	pumps.Wait()
	p.inputMu.Lock()
	if p.input != nil {
		_ = p.input.Close()
	}
	p.inputMu.Unlock()
	if !p.hasTTY {
		for _, out := range p.outputs {
			_ = out.file.Close()
		}
	}
	p.end = endEvent(p.cmd.ProcessState)
	close(p.done)
}

// pump passes one stream on until its end, or until the process has ended and
// nothing is left in the stream.
func (p *running) pump(out output, ended <-chan struct{}) {
	buf := make([]byte, out.size)
	for {
		n, err := out.file.Read(buf)
		if n > 0 {
			p.audience.publish(event(out.wrap(append([]byte(nil), buf[:n]...))))
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil { // its end; a terminal's is EIO
			return
		}
	}
	<-ended
	p.drain(out, buf)
}

// drain passes on what is in the stream now.
func (p *running) drain(out output, buf []byte) {
	raw, err := out.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		n := 0
		err := raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) }) // never blocks: the runtime's files do not
		if err != nil || n <= 0 {
			return
		}
		p.audience.publish(event(out.wrap(append([]byte(nil), buf[:n]...))))
	}
}

func event(data *pb.ProcessEvent_DataEvent) *pb.ProcessEvent {
	return &pb.ProcessEvent{Event: &pb.ProcessEvent_Data{Data: data}}
}

// endEvent tells how a process ended, in the words of package os that E2B's
// SDKs know.
func endEvent(state *os.ProcessState) *pb.ProcessEvent_EndEvent {
	end := &pb.ProcessEvent_EndEvent{
		ExitCode: int32(state.ExitCode()), // -1 after a signal
		Exited:   state.Exited(),
		Status:   state.String(),
	}
	if !state.Success() {
		message := state.String()
		end.Error = &message
	}
	return end
}

// isDone tells whether the process has ended.
func (p *running) isDone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends to the process and all that it started in its group.
func (p *running) signal(s syscall.Signal) error {
	if p.isDone() {
		return errNotFound(p.info.GetPid())
	}
	err := syscall.Kill(-p.cmd.Process.Pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return errNotFound(p.info.GetPid())
	}
	return err
}

// write writes to the terminal or the standard input. A process that does not
// read makes it wait as long as ctx allows.
func (p *running) write(ctx context.Context, in *pb.ProcessInput) error {
	var data []byte
	switch in := in.GetInput().(type) {
	case *pb.ProcessInput_Stdin:
		if p.hasTTY {
			return connect.NewError(connect.CodeInvalidArgument, errors.New("the process has a terminal: send the input as 'pty'"))
		}
		data = in.Stdin
	case *pb.ProcessInput_Pty:
		if !p.hasTTY {
			return connect.NewError(connect.CodeInvalidArgument, errors.New("the process has no terminal: send the input as 'stdin'"))
		}
		data = in.Pty
	default:
		return connect.NewError(connect.CodeInvalidArgument, errors.New("no input: send 'stdin' or 'pty'"))
	}
	p.inputMu.Lock()
	defer p.inputMu.Unlock()
	if p.input == nil {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the process has no standard input: it was started without one, or it was closed"))
	}
	stop := context.AfterFunc(ctx, func() { _ = p.input.SetWriteDeadline(time.Unix(1, 0)) })
	_, err := p.input.Write(data)
	if !stop() {
		_ = p.input.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, syscall.EPIPE), errors.Is(err, os.ErrClosed), errors.Is(err, io.ErrClosedPipe), errors.Is(err, syscall.EIO):
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the process reads no more"))
	}
	return fmt.Errorf("writing to process %d: %w", p.info.GetPid(), err)
}

// closeInput ends the standard input.
func (p *running) closeInput() error {
	if p.hasTTY {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the process has a terminal: send it an end of input (control-D) instead"))
	}
	p.inputMu.Lock()
	defer p.inputMu.Unlock()
	if p.input == nil {
		return nil
	}
	err := p.input.Close()
	p.input = nil
	return err
}

func (p *running) resize(size *pb.PTY_Size) error {
	if !p.hasTTY {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the process has no terminal"))
	}
	return pty.Setsize(p.input, winsize(size))
}

func winsize(size *pb.PTY_Size) *pty.Winsize {
	bound := func(n uint32) uint16 { return uint16(min(n, 1<<16-1)) }
	return &pty.Winsize{Rows: bound(size.GetRows()), Cols: bound(size.GetCols())}
}

package process

import (
	"errors"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	pb "cube/envd/gen/process"
)

// running is a process from its start until it is forgotten, some time after
// its end.
type running struct {
	info    *pb.ProcessInfo
	cmd     *exec.Cmd
	input   *os.File // its terminal, or the pipe to its standard input; nil for neither
	hasTTY  bool
	outputs []output

	writing chan struct{} // holds a value while input is written

	overtime  *time.Timer // kills it at its deadline; nil without one
	outOfTime atomic.Bool // it was killed at its deadline

	audience audience

	expiry *time.Timer // forgets it, some time after its end; nil before that

	done chan struct{} // closed once it has ended and its output was passed on
}

func newRunning(cmd *exec.Cmd) *running {
	return &running{cmd: cmd, writing: make(chan struct{}, 1), done: make(chan struct{})}
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
	master, slave, err := openTerminal(size)
	if err != nil {
		return err
	}
	defer slave.Close()
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
	if stdin {
		inR, inW := pipe()
		ours, theirs = append(ours, inW), append(theirs, inR)
		p.cmd.Stdin, p.input = inR, inW
	}
	if err != nil {
		return err
	}
	p.cmd.Stdout, p.cmd.Stderr = outW, errW
	p.cmd.SysProcAttr.Setpgid = true
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.outputs = []output{{outR, stdout, pipeChunk}, {errR, stderr, pipeChunk}}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // nil for a pipe that could not be made: Close says so and no more
	}
}

// killAt kills the process at its deadline, whoever follows it then.
func (p *running) killAt(deadline time.Time) {
	p.overtime = time.AfterFunc(time.Until(deadline), func() {
		p.outOfTime.Store(true)
		_ = p.signal(syscall.SIGKILL)
	})
}

// follow passes the output on and returns when the process has ended and all
// that it printed was passed on.
func (p *running) follow(kids *children) {
	var passing sync.WaitGroup
	for _, out := range p.outputs {
		passing.Add(1)
		go func() {
			out.passOn(&p.audience)
			passing.Done()
			out.discard()
		}()
	}
	kids.wait(p.cmd)
	if p.overtime != nil {
		p.overtime.Stop()
	}
	for _, out := range p.outputs {
		out.endSoon()
	}
	passing.Wait()
	if p.input != nil && !p.hasTTY { // a terminal is closed with its output
		_ = p.input.Close()
	}
	p.audience.diary.end(p.cmd.ProcessState.String())
	close(p.done)
}

// endEvent tells how a process that is done ended, in the words of package os
// that E2B's SDKs know.
func (p *running) endEvent() *pb.ProcessEvent {
	state := p.cmd.ProcessState
	end := &pb.ProcessEvent_EndEvent{
		ExitCode: int32(state.ExitCode()), // -1 after a signal
		Exited:   state.Exited(),
		Status:   state.String(),
	}
	if !state.Success() {
		message := state.String()
		end.Error = &message
	}
	return &pb.ProcessEvent{Event: &pb.ProcessEvent_End{End: end}}
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

package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"cube/engine/gvisor/launch"
)

// A sandbox's processes are no children of the server: they outlive it, and the
// next server finds them as this one does. So they are watched through pidfds,
// which name a process for good, not through wait(2).

// process is an open pidfd.
type process struct {
	pid  int
	file *os.File // known to the runtime's poller: waiting takes no thread
}

// openProcess opens the process that has the id pid now. A process that is not
// there is os.ErrProcessDone.
func openProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("opening process %d: %w", pid, err)
	}
	return &process{pid: pid, file: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// findProcess opens p if it is still the process that it was.
func findProcess(p launch.Process) (*process, error) {
	opened, err := openProcess(p.PID)
	if err != nil {
		return nil, err
	}
	// Compared after opening, so the id cannot be used again in between.
	now, err := launch.FindProcess(p.PID)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ESRCH), err == nil && now != p:
		err = os.ErrProcessDone
	case err == nil:
		return opened, nil
	}
	opened.close()
	return nil, err // perhaps of this server's own, as when it is out of file descriptors
}

func (p *process) close() { _ = p.file.Close() }

// exited tells whether the process has ended.
func (p *process) exited() bool {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return true
	}
	ended := true
	_ = raw.Control(func(fd uintptr) { ended = readable(fd) })
	return ended
}

// wait returns when the process has ended, or ctx.
func (p *process) wait(ctx context.Context) error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := raw.Read(readable); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("waiting for process %d: %w", p.pid, err)
	}
	// Where the server is the init process of its container, orphans are its
	// children and this is what removes them; elsewhere it does nothing.
	_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
	return nil
}

// readable is true for the pidfd of a process that has ended: pidfd_open(2).
func readable(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// killAndWait ends a process and returns when it has ended.
func killAndWait(ctx context.Context, pid int) error {
	p, err := openProcess(pid)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.close()
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var killed error
	if err := raw.Control(func(fd uintptr) { killed = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }); err != nil {
		return err
	}
	if killed != nil && !errors.Is(killed, unix.ESRCH) {
		return fmt.Errorf("killing process %d: %w", pid, killed)
	}
	return p.wait(ctx)
}

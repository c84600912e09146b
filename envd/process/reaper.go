package process

import (
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The first process of a system inherits every process whose parent ends, and
// must collect it when it ends too. Children of our own are collected by
// exec.Cmd.Wait, which must find them: so they are told apart.

// children are the processes that exec.Cmd.Wait will collect.
type children struct {
	// mu is held for reading while a process starts, and for writing while an
	// orphan is collected: in between, a child that is not in pids yet and has
	// already ended would look like an orphan.
	mu   sync.RWMutex
	pids sync.Map // int -> *exec.Cmd

	collected chan struct{} // holds a value after a child of ours was collected
}

func newChildren() *children { return &children{collected: make(chan struct{}, 1)} }

// start starts a command as a child of our own.
func (c *children) start(start func() (*exec.Cmd, error)) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	cmd, err := start()
	if err == nil {
		c.pids.Store(cmd.Process.Pid, cmd)
	}
	return err
}

// wait collects a child of our own.
func (c *children) wait(cmd *exec.Cmd) {
	_ = cmd.Wait() // how it ended is in cmd.ProcessState
	c.pids.CompareAndDelete(cmd.Process.Pid, cmd)
	select {
	case c.collected <- struct{}{}:
	default:
	}
}

// collectOrphans collects what is not ours, until done is closed.
func (c *children) collectOrphans(done <-chan struct{}) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		select {
		case <-done:
			return
		case <-ended:
		case <-c.collected: // it may have stood before an orphan
		}
		c.collect()
	}
}

// collect collects orphans until there are none, or the next process to collect
// is one of ours: then its waiter does that, and calls again.
func (c *children) collect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		pid := nextEnded()
		if pid == 0 {
			return
		}
		if _, ours := c.pids.Load(pid); ours {
			return
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// nextEnded returns a child that has ended and leaves it uncollected, 0 if there
// is none.
func nextEnded() int {
	// siginfo_t of waitid(2), as the kernel lays it out on 64-bit machines.
	var info struct {
		signo, errno, code, _ int32
		pid                   int32
		_                     [108]byte
	}
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(info.pid)
}

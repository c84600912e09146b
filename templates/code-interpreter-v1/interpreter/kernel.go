package main

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed kernels
var programs embed.FS

// maxEvent bounds one event of a kernel's, in bytes: a picture, or a table.
const maxEvent = 256 << 20

// kernel is a process that runs one piece of code after the other. It reads jobs
// from descriptor 3 and writes events to 4; its standard output and error are the
// code's own.
type kernel struct {
	process *exec.Cmd
	jobs    io.WriteCloser
	encode  func(job) ([]byte, error)
	events  chan event    // what the code gives, in order; "done" after each piece
	dead    chan struct{} // closed when it runs no more and all it wrote was read

	mu   sync.Mutex
	rest []event // what was read and not taken when it died
}

// commands start the kernels.
var commands = map[string]func(dir string) []string{
	"python":     func(dir string) []string { return []string{"python3", "-u", path.Join(dir, "python.py")} },
	"javascript": func(dir string) []string { return []string{"node", path.Join(dir, "javascript.cjs")} },
	"typescript": func(dir string) []string { return []string{"node", path.Join(dir, "javascript.cjs")} },
	"bash":       func(string) []string { return []string{"bash", "--norc", "--noprofile", "/proc/self/fd/3"} },
}

func languages() string {
	names := make([]string, 0, len(commands))
	for name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// unpacked is the directory of the kernels' programs.
var unpacked = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kernels-")
	if err != nil {
		return "", err
	}
	return path.Join(dir, "kernels"), os.CopyFS(dir, programs)
})

// startKernel starts one in a directory.
func startKernel(language, cwd string) (*kernel, error) {
	command, known := commands[language]
	if !known {
		return nil, fmt.Errorf("there is no kernel for the language %.32q: there are %s", language, languages())
	}
	dir, err := unpacked()
	if err != nil {
		return nil, err
	}
	var opened []*os.File
	pipe := func() (r, w *os.File) {
		r, w, e := os.Pipe()
		err = errors.Join(err, e)
		opened = append(opened, r, w)
		return r, w
	}
	jobsIn, jobsOut := pipe()
	eventsIn, eventsOut := pipe()
	stdoutIn, stdoutOut := pipe()
	stderrIn, stderrOut := pipe()
	if err != nil {
		closeAll(opened)
		return nil, err
	}
	args := command(dir)
	k := &kernel{process: exec.Command(args[0], args[1:]...), jobs: jobsOut, encode: encodeJSON, events: make(chan event), dead: make(chan struct{})}
	var first []byte
	if language == "bash" {
		k.encode = encodeShell
		if first, err = programs.ReadFile("kernels/bash.sh"); err != nil {
			closeAll(opened)
			return nil, err
		}
	}
	k.process.Dir = cwd
	k.process.Env = append(os.Environ(), "PWD="+cwd, "MPLBACKEND=module://matplotlib_inline.backend_inline")
	k.process.Stdout, k.process.Stderr = stdoutOut, stderrOut
	k.process.ExtraFiles = []*os.File{jobsIn, eventsOut}
	// A group of its own, which interrupt signals: with it what the code started.
	k.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := k.process.Start(); err != nil {
		closeAll(opened)
		return nil, err
	}
	closeAll([]*os.File{jobsIn, eventsOut, stdoutOut, stderrOut})
	_, _ = jobsOut.Write(first) // a pipe holds it; a kernel that died says so later
	go k.read(eventsIn, &printed{stdoutIn, "stdout"}, &printed{stderrIn, "stderr"})
	return k, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// begin gives it a piece of code.
func (k *kernel) begin(j job) error {
	data, err := k.encode(j)
	if err == nil {
		_, err = k.jobs.Write(data)
	}
	return err
}

func (k *kernel) interrupt() { _ = unix.Kill(-k.process.Process.Pid, unix.SIGINT) }

func (k *kernel) kill() {
	if !k.isDead() {
		_ = unix.Kill(-k.process.Process.Pid, unix.SIGKILL)
	}
}

func (k *kernel) isDead() bool {
	select {
	case <-k.dead:
		return true
	default:
		return false
	}
}

// last is what it wrote before it died and nobody has taken.
func (k *kernel) last() []event {
	k.mu.Lock()
	defer k.mu.Unlock()
	rest := k.rest
	k.rest = nil
	return rest
}

// printed is an output of the code's own.
type printed struct {
	file *os.File
	kind string
}

// read passes on what the kernel gives until its files are closed. What the code
// printed before an event comes before it: the kernel has written it already.
func (k *kernel) read(events *os.File, outputs ...*printed) {
	defer close(k.dead)
	var group sync.WaitGroup
	lock := make(chan struct{}, 1) // held while one passes something on
	ended := make(chan struct{})   // closed when the kernel runs no more
	send := func(e event) {
		select {
		case k.events <- e:
		case <-ended:
			k.mu.Lock()
			k.rest = append(k.rest, e)
			k.mu.Unlock()
		}
	}
	for _, output := range outputs {
		group.Go(func() { output.follow(send, lock) })
	}
	lines := bufio.NewReaderSize(events, 64<<10)
	for {
		line, err := readLine(lines)
		if err != nil {
			break
		}
		e, err := readEvent(line)
		if err != nil {
			continue
		}
		lock <- struct{}{}
		for _, output := range outputs {
			output.drain(send)
		}
		if e["type"] == "result" {
			e = result(e)
		}
		send(e)
		<-lock
	}
	_ = k.process.Process.Kill() // one that still runs has closed its events, or sent too much
	_ = k.process.Wait()
	close(ended)
	// What the code left running may hold its outputs open for ever.
	for _, output := range outputs {
		_ = output.file.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	}
	group.Wait()
	_ = k.jobs.Close()
	_ = events.Close()
}

// readLine reads a line of at most maxEvent bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxEvent {
			return nil, errors.New("the kernel sends too much at once")
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// follow passes on what is printed as it comes.
func (p *printed) follow(send func(event), lock chan struct{}) {
	defer p.file.Close()
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		// Wait without taking anything: whoever holds the lock takes it.
		if err := raw.Read(func(fd uintptr) bool { return readable(int(fd)) }); err != nil {
			return
		}
		lock <- struct{}{}
		open := p.drain(send)
		<-lock
		if !open {
			return
		}
	}
}

// drain passes on what has been printed, and tells whether more can come.
func (p *printed) drain(send func(event)) bool {
	buffer := make([]byte, 64<<10)
	raw, err := p.file.SyscallConn()
	if err != nil {
		return false
	}
	for {
		var n int
		var failed error
		err := raw.Control(func(fd uintptr) {
			if n, failed = 0, unix.EAGAIN; readable(int(fd)) {
				n, failed = unix.Read(int(fd), buffer)
			}
		})
		switch {
		case err != nil:
			return false
		case n > 0:
			send(event{"type": p.kind, "text": strings.ToValidUTF8(string(buffer[:n]), "\ufffd"), "timestamp": time.Now().UTC().Format(time.RFC3339Nano)})
		case failed != nil:
			return errors.Is(failed, unix.EAGAIN) || errors.Is(failed, unix.EINTR)
		default:
			return false // its end
		}
	}
}

// readable tells whether a read would return at once.
func readable(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

// readEvent reads a line of a kernel's. Numbers stay as they are written: 1.0 and 1
// are of two kinds to Python.
func readEvent(line []byte) (e event, err error) {
	in := json.NewDecoder(bytes.NewReader(line))
	in.UseNumber()
	err = in.Decode(&e)
	return e, err
}

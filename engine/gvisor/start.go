package gvisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
)

const (
	// startTimeout bounds one start. On a machine under full load the slowest
	// of 50 at once took 4 s.
	startTimeout = 60 * time.Second
	// undoTimeout bounds the removal of what a failed start has made.
	undoTimeout = 30 * time.Second
	// minMemoryMB is what the sandbox's kernel, the agent and a shell need.
	minMemoryMB = 64
)

// Start implements cube.Engine.
func (e *Engine) Start(ctx context.Context, req cube.StartRequest) (_ cube.Timings, err error) {
	if err := e.checkResources(req.Resources); err != nil {
		return cube.Timings{}, err
	}
	origin, release, err := e.openOrigin(req)
	if err != nil {
		return cube.Timings{}, err
	}
	defer release()
	s := &sandbox{starting: true, record: record{Link: noLink, Root: origin.root.Dir, Origin: &origin.root, Resources: req.Resources}}
	if err := e.remember(req.ID, s); err != nil {
		return cube.Timings{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			err = errors.Join(err, e.Stop(undo, req.ID))
		}
	}()

	start := time.Now()
	if err := os.Mkdir(e.dir(req.ID), 0o711); err != nil {
		return cube.Timings{}, fmt.Errorf("making the sandbox's directory: %w", err)
	}
	if err := e.cgroups.create(req.ID, req.Resources); err != nil {
		return cube.Timings{}, fmt.Errorf("making the sandbox's control group: %w", err)
	}
	request := launch.Request{
		ID:          string(req.ID),
		Dir:         e.dir(req.ID),
		Root:        origin.root,
		Snapshot:    origin.snapshot,
		CPUs:        req.Resources.CPUs,
		MemoryBytes: int64(req.Resources.MemoryMB) << 20,
		DiskBytes:   int64(req.Resources.DiskMB) << 20,
		Pids:        req.Resources.Pids,
		Timeout:     startTimeout,
	}
	link, err := e.network.take()
	if err != nil {
		return cube.Timings{}, cube.WrapError(cube.Exhausted, err, "no address is free for another sandbox: kill one, or start the server with a larger --sandbox-network")
	}
	e.mu.Lock()
	s.Link, s.Internet, s.Network = link, req.Internet, req.Network
	e.mu.Unlock()
	if err := e.network.hold(req.ID, link, req.Internet, req.Network); err != nil {
		return cube.Timings{}, err
	}
	request.Network = e.network.describe(link)
	prepared := time.Since(start)

	ready, result, err := e.launch(ctx, req.ID, request, origin.unpacked)
	if err != nil {
		return cube.Timings{}, err
	}
	defer ready.Close()
	if e.cfg.Limits.Bandwidth > 0 {
		if err := e.network.shape(link, result.Sentry); err != nil {
			return cube.Timings{}, err
		}
	}
	launched := time.Since(start)
	if origin.continues() {
		err = e.awaitAnswer(ctx, result.Sentry, request.Network.Guest.Addr().String())
	} else {
		err = awaitAgent(ctx, ready)
	}
	if err != nil {
		return cube.Timings{}, err
	}

	running := s.record
	running.Sentry = result.Sentry
	if err := writeRecord(e.dir(req.ID), running); err != nil {
		return cube.Timings{}, fmt.Errorf("recording the sandbox: %w", err)
	}
	e.mu.Lock()
	s.record, s.starting = running, false
	e.mu.Unlock()
	if origin.snapshot != nil && origin.unpacked == nil { // else it was compared already
		e.watchMemory(req.ID, s, origin.snapshot)
	}
	return cube.Timings{
		Root:    prepared + result.Mounts,
		Network: result.Network,
		Boot:    launched - prepared - result.Mounts - result.Network,
		Agent:   time.Since(start) - launched,
	}, nil
}

func (e *Engine) checkResources(r cube.Resources) error {
	limits := e.Limits()
	switch {
	case r.CPUs < 1 || r.CPUs > limits.CPUs:
		return cube.Errorf(cube.Invalid, "a sandbox can have 1 to %d processors here, not %d", limits.CPUs, r.CPUs)
	case r.MemoryMB < minMemoryMB:
		return cube.Errorf(cube.Invalid, "a sandbox needs at least %d MiB of memory, not %d", minMemoryMB, r.MemoryMB)
	case r.DiskMB < 1 || r.Pids < 1:
		return cube.Errorf(cube.Invalid, "a sandbox needs room on its disk and processes: %d MiB and %d are too few", r.DiskMB, r.Pids)
	}
	return nil
}

// remember reserves an id.
func (e *Engine) remember(id cube.SandboxID, s *sandbox) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.sandboxes[id]; ok {
		return cube.Errorf(cube.Conflict, "sandbox %s exists already", id)
	}
	e.sandboxes[id] = s
	return nil
}

// launch runs the helper process, which creates the sandbox and ends. unpacked is
// the directory of the snapshot's files where that has no name, else nil. The
// returned pipe is the sandbox's standard output.
func (e *Engine) launch(ctx context.Context, id cube.SandboxID, request launch.Request, unpacked *os.File) (*os.File, launch.Result, error) {
	fail := func(err error) (*os.File, launch.Result, error) {
		return nil, launch.Result{}, fmt.Errorf("launching the sandbox: %w", err)
	}
	var pipes pipes
	defer pipes.closeTheirs()
	requestIn, requestOut := pipes.make()
	readyIn, readyOut := pipes.make()
	resultIn, resultOut := pipes.make()
	if pipes.err != nil {
		pipes.closeOurs()
		return fail(pipes.err)
	}
	pipes.theirs = []*os.File{requestIn, readyOut, resultOut}
	pipes.ours = []*os.File{requestOut, readyIn, resultIn}

	cmd := exec.Command(e.runsc, launch.Command)
	cmd.Env = []string{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = requestIn, readyOut, readyOut
	cmd.ExtraFiles = []*os.File{resultOut, e.hostNS}
	if unpacked != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, unpacked)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Root's right to make namespaces: the sandbox's mounts and network
		// exist in these alone.
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Setsid:     true, // a signal to the server's group is none to the sandbox
	}
	if err := cmd.Start(); err != nil {
		pipes.closeOurs()
		return fail(err)
	}
	pipes.closeTheirs()
	// A start that is given up ends the helper, and with it the reads below.
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()

	var result launch.Result
	err := e.cgroups.add(id, cmd.Process.Pid)
	if err == nil {
		err = json.NewEncoder(requestOut).Encode(request)
	}
	_ = requestOut.Close()
	if err == nil {
		err = json.NewDecoder(io.LimitReader(resultIn, 1<<20)).Decode(&result)
	}
	_ = resultIn.Close()
	if err != nil {
		_ = cmd.Process.Kill()
	}
	_ = cmd.Wait() // how it went is in the result, or in err
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && result.Error != "":
		err = errors.New(result.Error)
	}
	if err != nil {
		_ = readyIn.Close()
		if result.Refused {
			return nil, launch.Result{}, cube.Errorf(cube.Unsupported, "the snapshot cannot be started from: %s", result.Error)
		}
		return fail(err)
	}
	return readyIn, result, nil
}

// openHostNS opens what helper processes make a sandbox's link from, with a high
// number: see launch.HighFD.
func openHostNS() (*os.File, error) {
	file, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, launch.HighFD)
	if err != nil {
		return nil, fmt.Errorf("opening a file with the number %d: %w", launch.HighFD, err)
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}

// pipes are the pipes between the server and a helper process.
type pipes struct {
	ours, theirs []*os.File
	err          error
}

func (p *pipes) make() (r, w *os.File) {
	r, w, err := os.Pipe()
	if err != nil {
		p.err = errors.Join(p.err, err)
		return nil, nil
	}
	p.ours = append(p.ours, r, w) // until it is known whose they are
	return r, w
}

func (p *pipes) closeOurs() {
	for _, f := range p.ours {
		_ = f.Close()
	}
}

func (p *pipes) closeTheirs() {
	for _, f := range p.theirs {
		_ = f.Close()
	}
	p.theirs = nil
}

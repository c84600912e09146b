package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

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

	kind := kindOf(req.Resources, origin)
	defer e.spares.begin(kind)()
	start := time.Now()
	h, result, err := e.makeProcesses(ctx, req, s, origin, kind)
	if err != nil {
		return cube.Timings{}, err
	}
	defer h.result.Close()
	defer h.ready.Close()
	if e.cfg.Limits.Bandwidth > 0 {
		if err := e.network.shape(s.Link, result.Sentry); err != nil {
			return cube.Timings{}, err
		}
	}
	launched := time.Since(start)
	if origin.continues() {
		err = e.awaitAnswer(ctx, result.Sentry, e.network.describe(s.Link).Guest.Addr().String())
	} else {
		err = awaitAgent(ctx, h.ready)
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
		Root:    result.Mounts,
		Network: result.Network,
		Boot:    launched - result.Mounts - result.Network,
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

// makeProcesses makes a sandbox's directory, control group, link and processes,
// or takes those of a spare. The helper has ended afterwards.
func (e *Engine) makeProcesses(ctx context.Context, req cube.StartRequest, s *sandbox, origin origin, kind spareKind) (*helper, launch.Result, error) {
	if spare := e.takeSpare(ctx, kind); spare != nil {
		return e.become(ctx, spare, req, s, origin)
	}
	request, err := e.prepare(req.ID, s, kind, func() bool { return e.dropSpares(ctx) })
	if err != nil {
		return nil, launch.Result{}, err
	}
	request.Snapshot = origin.snapshot
	if err := e.holdPolicy(req, s); err != nil {
		return nil, launch.Result{}, err
	}
	h, err := e.startHelper(req.ID, origin.unpacked)
	if err != nil {
		return nil, launch.Result{}, err
	}
	result, err := h.ask(ctx, request)
	return h.finish(result, err)
}

// prepare makes the directory and the control group and takes a link. It asks once
// for others to be given back if there is none.
func (e *Engine) prepare(id cube.SandboxID, s *sandbox, kind spareKind, giveBack func() bool) (launch.Request, error) {
	if err := os.Mkdir(e.dir(id), 0o711); err != nil {
		return launch.Request{}, fmt.Errorf("making the sandbox's directory: %w", err)
	}
	r := kind.resources
	if err := e.cgroups.create(id, r); err != nil {
		return launch.Request{}, fmt.Errorf("making the sandbox's control group: %w", err)
	}
	link, err := e.network.take()
	if err != nil && giveBack() {
		link, err = e.network.take()
	}
	if err != nil {
		return launch.Request{}, cube.WrapError(cube.Exhausted, err, "no address is free for another sandbox: kill one, or start the server with a larger --sandbox-network")
	}
	e.mu.Lock()
	s.Link = link
	e.mu.Unlock()
	return launch.Request{
		ID:          string(id),
		Dir:         e.dir(id),
		Root:        kind.root,
		CPUs:        r.CPUs,
		MemoryBytes: int64(r.MemoryMB) << 20,
		DiskBytes:   int64(r.DiskMB) << 20,
		Pids:        r.Pids,
		Network:     e.network.describe(link),
		Timeout:     startTimeout,
	}, nil
}

// holdPolicy puts the network policy of a sandbox, which has its link, into force.
func (e *Engine) holdPolicy(req cube.StartRequest, s *sandbox) error {
	e.mu.Lock()
	s.Internet, s.Network = req.Internet, req.Network
	e.mu.Unlock()
	return e.network.hold(req.ID, s.Link, req.Internet, req.Network)
}

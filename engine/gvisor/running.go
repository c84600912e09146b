package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"cube"
)

// List implements cube.Engine.
func (e *Engine) List(context.Context) ([]cube.EngineSandbox, error) {
	seen := map[cube.SandboxID]bool{}
	var list []cube.EngineSandbox
	add := func(id cube.SandboxID) {
		if !seen[id] && !e.spares.has(id) {
			seen[id] = true
			list = append(list, cube.EngineSandbox{ID: id, Running: e.running(id)})
		}
	}
	entries, err := os.ReadDir(e.dir(""))
	if err != nil {
		return nil, fmt.Errorf("listing the sandboxes' directories: %w", err)
	}
	for _, entry := range entries {
		if id, err := cube.ParseSandboxID(entry.Name()); err == nil {
			add(id)
		}
	}
	grouped, err := e.cgroups.list()
	if err != nil {
		return nil, fmt.Errorf("listing the sandboxes' control groups: %w", err)
	}
	for _, id := range grouped {
		add(id)
	}
	return list, nil
}

// lookup returns what is remembered of a sandbox whose start has ended well.
func (e *Engine) lookup(id cube.SandboxID) (record, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sandboxes[id]
	if s == nil || s.starting {
		return record{}, false
	}
	return s.record, true
}

func (e *Engine) running(id cube.SandboxID) bool {
	r, ok := e.lookup(id)
	if !ok {
		return false
	}
	sentry, err := findProcess(r.Sentry)
	if err != nil { // one that cannot be looked at may run: what does not is removed
		return !errors.Is(err, os.ErrProcessDone)
	}
	defer sentry.close()
	return !sentry.exited()
}

// Wait implements cube.Engine.
func (e *Engine) Wait(ctx context.Context, id cube.SandboxID) (cube.Exit, error) {
	r, ok := e.lookup(id)
	if !ok {
		return cube.Exit{}, nil
	}
	sentry, err := findProcess(r.Sentry)
	switch {
	case errors.Is(err, os.ErrProcessDone):
	case err != nil:
		return cube.Exit{}, err
	default:
		defer sentry.close()
		if err := sentry.wait(ctx); err != nil {
			return cube.Exit{}, err
		}
	}
	e.mu.Lock()
	damaged := e.sandboxes[id] != nil && e.sandboxes[id].damaged
	e.mu.Unlock()
	if e.cgroups.outOfMemory(id) {
		return cube.Exit{OutOfMemory: true, Detail: "the sandbox went over its memory limit"}, nil
	}
	if damaged {
		return cube.Exit{Detail: "the snapshot that it was started from is damaged"}, nil
	}
	return cube.Exit{Detail: "the sandbox's kernel or its first process ended"}, nil
}

// Stats implements cube.Engine.
func (e *Engine) Stats(_ context.Context, id cube.SandboxID) (cube.Stats, error) {
	r, ok := e.lookup(id)
	if !ok || !e.running(id) {
		return cube.Stats{}, notRunning(id)
	}
	stats, err := e.cgroups.stats(id)
	if errors.Is(err, os.ErrNotExist) {
		return cube.Stats{}, notRunning(id)
	}
	if err == nil {
		stats.Link, err = e.network.linkStats(r.Link)
	}
	if err != nil && !e.running(id) { // it has just ended
		return cube.Stats{}, notRunning(id)
	}
	return stats, err
}

func notRunning(id cube.SandboxID) error {
	return cube.Errorf(cube.NotFound, "sandbox %s does not run", id)
}

// SetNetwork implements cube.Engine. What is on the disk is what the next server
// puts into force, so it is written first.
func (e *Engine) SetNetwork(_ context.Context, id cube.SandboxID, internet bool, policy cube.NetworkPolicy) error {
	e.mu.Lock()
	s := e.sandboxes[id]
	e.mu.Unlock()
	if s == nil {
		return notRunning(id)
	}
	s.stopping.Lock() // the link must stay its own meanwhile
	defer s.stopping.Unlock()
	old, ok := e.lookup(id)
	e.mu.Lock()
	ok = ok && e.sandboxes[id] == s
	e.mu.Unlock()
	if !ok || !e.running(id) {
		return notRunning(id)
	}
	next := old
	next.Internet, next.Network = internet, policy
	if err := writeRecord(e.dir(id), next); err != nil {
		return fmt.Errorf("recording the sandbox's network policy: %w", err)
	}
	if err := e.network.hold(id, old.Link, internet, policy); err != nil {
		back := e.network.hold(id, old.Link, old.Internet, old.Network)
		return errors.Join(err, back, writeRecord(e.dir(id), old))
	}
	e.mu.Lock()
	s.Internet, s.Network = internet, policy
	e.mu.Unlock()
	if err := e.network.endRefused(old.Link); err != nil { // they end with their next packet
		e.cfg.Log.Warn("connections that a new network policy does not allow could not be looked for", "sandbox", id, "error", err)
	}
	return nil
}

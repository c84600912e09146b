package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"cube"
)

// Stop implements cube.Engine. It works from what is on the machine, so it also
// removes what an earlier server has left half-made.
func (e *Engine) Stop(ctx context.Context, id cube.SandboxID) error {
	s, r := e.beginStop(id)
	if s != nil {
		defer s.stopping.Unlock()
	}
	if r.Link != noLink {
		_, _ = e.network.linkStats(r.Link) // the link goes with the last of its processes
	}
	if err := e.cgroups.kill(ctx, id); err != nil {
		return fmt.Errorf("ending the processes of sandbox %s: %w", id, err)
	}
	err := e.cgroups.remove(ctx, id)
	if r.Link != noLink {
		err = errors.Join(err, e.network.release(r.Link))
	}
	err = errors.Join(err, os.RemoveAll(e.dir(id)))
	if err != nil {
		return fmt.Errorf("removing what is left of sandbox %s: %w", id, err)
	}
	e.mu.Lock()
	if e.sandboxes[id] == s {
		delete(e.sandboxes, id)
	}
	e.mu.Unlock()
	e.sweepLate()
	if !e.spares.has(id) { // one that could not be made is not tried again at once
		e.spares.notify()
	}
	return nil
}

// beginStop waits for its turn with a sandbox that is remembered. The link is
// given back by the first alone: a second might take it from its next owner.
func (e *Engine) beginStop(id cube.SandboxID) (*sandbox, record) {
	e.mu.Lock()
	s := e.sandboxes[id]
	e.mu.Unlock()
	if s == nil {
		return nil, record{Link: noLink}
	}
	s.stopping.Lock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sandboxes[id] != s {
		s.stopping.Unlock()
		return nil, record{Link: noLink}
	}
	return s, s.record
}

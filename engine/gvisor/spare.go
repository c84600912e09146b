package gvisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"cube"
	"cube/engine/gvisor/launch"
)

// A spare is the processes of a sandbox, made before it is known whose they will
// be: gVisor has started and waits, nothing runs in it. It has a directory, a
// control group and a link as a sandbox has, under an id of its own, so a server
// that is killed leaves nothing that its successor does not find. What becomes
// of it gets all three, and no second sandbox ever does.

// spare is one that is there or being made.
type spare struct {
	id   cube.SandboxID
	kind spareKind
	s    *sandbox
	made chan struct{} // closed when the rest stands, or it is known that it never will

	helper *helper        // once made; nil if it could not be
	sentry launch.Process // once made
	taken  bool           // guarded by spares.mu
}

// spareKind is what a spare is made for.
type spareKind struct {
	key       string // "" for what no spare can become
	root      launch.Root
	resources cube.Resources
}

func kindOf(r cube.Resources, o origin) spareKind {
	kind := spareKind{root: o.root, resources: r}
	// In one order, whether it comes from the root itself or from a snapshot.
	kind.root.Masked = slices.Compact(slices.Sorted(slices.Values(o.root.Masked)))
	if o.unpacked != nil || o.snapshot != nil && !o.snapshot.Manifest.Memory {
		return kind // gVisor must have the files when its processes start
	}
	if key, err := json.Marshal([]any{kind.root, r}); err == nil {
		kind.key = string(key)
	}
	return kind
}

// takeSpare takes one that is there, or waits for one that is being made: it was
// begun earlier than another would be. nil if there is none.
func (e *Engine) takeSpare(ctx context.Context, kind spareKind) *spare {
	for {
		sp := e.spares.take(kind)
		if sp == nil {
			return nil
		}
		select {
		case <-sp.made:
		default:
			_ = e.cgroups.weigh(sp.id, usualWeight)
			select {
			case <-sp.made:
			case <-ctx.Done():
				e.spares.putBack(sp)
				return nil
			}
		}
		if sp.helper != nil && alive(sp.sentry) {
			return sp
		}
		e.removeSpare(ctx, sp)
	}
}

func alive(p launch.Process) bool {
	opened, err := findProcess(p)
	if err != nil {
		return false
	}
	defer opened.close()
	return !opened.exited()
}

// become makes a sandbox of a spare that was taken. Whatever happens on the way,
// the directory, the control group and the link carry one of the two ids.
func (e *Engine) become(ctx context.Context, sp *spare, req cube.StartRequest, s *sandbox, o origin) (*helper, launch.Result, error) {
	fail := func(err error) (*helper, launch.Result, error) {
		sp.helper.abandon()
		e.spares.forget(sp)
		return nil, launch.Result{}, errors.Join(err, e.Stop(context.WithoutCancel(ctx), sp.id))
	}
	e.mu.Lock()
	s.Link, sp.s.Link = sp.s.Link, noLink
	e.mu.Unlock()
	if err := os.Rename(e.dir(sp.id), e.dir(req.ID)); err != nil {
		return fail(fmt.Errorf("naming the sandbox's directory: %w", err))
	}
	if err := e.cgroups.rename(ctx, sp.id, req.ID, req.Resources); err != nil {
		return fail(fmt.Errorf("naming the sandbox's control group: %w", err))
	}
	e.mu.Lock()
	delete(e.sandboxes, sp.id)
	e.mu.Unlock()
	e.spares.forget(sp)
	err := errors.Join(e.cgroups.weigh(req.ID, usualWeight), e.holdPolicy(req, s))
	if err != nil {
		sp.helper.abandon()
		return nil, launch.Result{}, err
	}
	result, err := sp.helper.ask(ctx, launch.Begin{Dir: e.dir(req.ID), Snapshot: o.snapshot, Timeout: startTimeout})
	return sp.helper.finish(result, err)
}

// keepSpares makes spares when nobody starts a sandbox.
func (e *Engine) keepSpares() {
	ticker := time.NewTicker(spareMemory / 4)
	defer ticker.Stop()
	for {
		select {
		case <-e.spares.wake:
		case <-ticker.C:
		case <-e.closing.Done():
			return
		}
		for {
			missing, surplus := e.spares.next()
			if surplus != nil {
				e.removeSpare(e.closing, surplus)
			} else if missing == nil || !e.makeSpare(missing) {
				break
			}
		}
	}
}

// makeSpare makes one that next has entered.
func (e *Engine) makeSpare(sp *spare) bool {
	defer close(sp.made)
	ctx, cancel := context.WithTimeout(e.closing, startTimeout)
	defer cancel()
	root := sp.kind.root
	sp.s = &sandbox{starting: true, record: record{Link: noLink, Root: root.Dir, Origin: &root, Resources: sp.kind.resources}}
	err := e.remember(sp.id, sp.s)
	if err == nil {
		err = func() error {
			request, err := e.prepare(sp.id, sp.s, sp.kind, func() bool { return false })
			if err != nil {
				return err
			}
			if err := e.cgroups.weigh(sp.id, spareWeight); err != nil {
				return err
			}
			request.Spare = true
			h, err := e.startHelper(sp.id, nil)
			if err != nil {
				return err
			}
			result, err := h.ask(ctx, request)
			if err != nil {
				h.abandon()
				return err
			}
			sp.helper, sp.sentry = h, result.Sentry
			return nil
		}()
	}
	if err == nil {
		return true
	}
	if e.closing.Err() == nil {
		e.cfg.Log.Warn("no processes could be made in advance; sandboxes start without", "error", err)
	}
	e.removeSpare(context.Background(), sp)
	return false
}

// removeSpare ends one for good.
func (e *Engine) removeSpare(ctx context.Context, sp *spare) {
	if sp.helper != nil {
		sp.helper.abandon()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := e.Stop(ctx, sp.id); err != nil {
		e.cfg.Log.Warn("what was made in advance of a sandbox could not be removed", "error", err)
	}
	e.spares.forget(sp) // now: until then it is ours
}

// dropSpares ends those that wait, for whoever needs what they have, and tells
// whether there was one.
func (e *Engine) dropSpares(ctx context.Context, which ...cube.SandboxID) bool {
	dropped := e.spares.takeAll(which)
	for _, sp := range dropped {
		e.removeSpare(ctx, sp)
	}
	return len(dropped) > 0
}

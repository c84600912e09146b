package lifecycle

import (
	"cmp"
	"context"
	"time"

	"cube"
)

// FillPool has sandboxes of a template, whosever it is, wait before anybody has asked
// for one.
func (s *Sandboxes) FillPool(name string) {
	if s.pool.size == 0 {
		return
	}
	ctx := cube.WithIdentity(s.ctx, cube.Identity{Scopes: []string{cube.ScopeOperator}})
	if from, err := s.originOf(ctx, name); err == nil && from.pooled {
		s.pool.want(kindOf(newSandbox(CreateRequest{Internet: true}, from), from), from)
	}
}

// fillPool is the filler: it adds to the pool what is missing, one after the
// other, when nobody else makes a sandbox.
func (s *Sandboxes) fillPool() {
	ticker := time.NewTicker(poolMemory)
	defer ticker.Stop()
	for {
		select {
		case <-s.pool.short:
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
		for {
			k, missing := s.pool.missing()
			if !missing || !s.awaitQuiet() || !s.addSpare(k) {
				break
			}
		}
	}
}

// awaitQuiet waits for a moment in which nobody makes a sandbox.
func (s *Sandboxes) awaitQuiet() bool {
	for waited := time.Duration(0); s.foreground.Load() > 0 && waited < quietPatience; waited += quietPause {
		select {
		case <-time.After(quietPause):
		case <-s.ctx.Done():
			return false
		}
	}
	return s.ctx.Err() == nil
}

// addSpare starts one and puts it into the pool, if there is room for it.
func (s *Sandboxes) addSpare(k spareKind) bool {
	s.mu.Lock()
	full := s.maxSandboxes > 0 && s.count+s.pool.count()+1 > s.maxSandboxes
	s.mu.Unlock()
	if full || s.freeMemory != nil && s.freeMemory() < minFreeMemory+int64(k.resources.MemoryMB)<<20/4 {
		return false
	}
	ctx, cancel := context.WithTimeout(s.ctx, createTimeout)
	defer cancel()
	if err := s.starts.Acquire(ctx, poolAccount); err != nil {
		return false
	}
	defer s.starts.Release()
	from, wanted := s.pool.originOf(k)
	if !wanted {
		return false
	}
	is := newSandbox(CreateRequest{Secure: true, Internet: k.internet}, from)
	id := is.ID
	_, err := s.engine.Start(ctx, cube.StartRequest{ID: id, Snapshot: k.snapshot, Resources: k.resources, Internet: k.internet})
	if err == nil {
		if err = initAgent(ctx, s.engine, is, from.hostKey); err != nil {
			s.spawn(func() { s.stop(id) })
		}
	}
	if cube.KindOf(err) == cube.NotFound { // its template is gone, or another
		s.pool.empty(func(other spareKind) bool { return other == k })
	}
	if err != nil {
		if s.ctx.Err() == nil {
			s.log.Warn("the pool could not be filled", "template", k.template, "error", err)
		}
		return false
	}
	watching, forget := context.WithCancel(s.ctx)
	one := &spare{id: id, kind: k, is: is, forget: forget}
	s.pool.put(one)
	s.spawn(func() {
		defer forget()
		if _, err := s.engine.Wait(watching, id); cmp.Or(err, watching.Err()) == nil && s.pool.lose(one) {
			s.stop(id)
			s.pool.notify()
		}
	})
	return true
}

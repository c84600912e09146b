package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"time"

	"cube"
)

// claim makes a sandbox of the pool the wanted one, if there is one that fits and
// lives: done is false where there is none. One that cannot be had for another
// reason stays.
func (s *Sandboxes) claim(ctx context.Context, req CreateRequest, sandbox cube.Sandbox, from origin) (_ Created, done bool, _ error) {
	if s.pool.size == 0 || !from.pooled {
		return Created{}, false, nil
	}
	begun := time.Now()
	one := s.pool.take(kindOf(sandbox, from), from)
	if one == nil {
		return Created{}, false, nil
	}
	told := one.knows(sandbox)
	if told {
		sandbox.AccessToken, sandbox.HostKey = one.is.AccessToken, one.is.HostKey
	}
	sandbox.ID = one.id
	sandbox.State = cube.Running
	l := newLive(sandbox)
	if err := s.reserve(req.caller, l); err != nil {
		s.pool.put(one)
		return Created{}, true, err
	}
	one.forget()
	undo := func() {
		l.halt()
		s.forget(l)
		s.spawn(func() { s.stop(one.id) })
	}
	err := s.applyNetwork(ctx, sandbox)
	if err == nil && !told {
		err = initAgent(ctx, s.engine, sandbox, one.is.HostKey)
	}
	if err != nil {
		undo()
		if ctx.Err() != nil {
			return Created{}, true, explain(ctx, s.ctx, err)
		}
		s.log.Warn("a sandbox of the pool did not answer; another is started", "sandbox", one.id, "error", err)
		return Created{}, false, nil
	}
	timings := cube.Timings{Agent: time.Since(begun)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sandbox.EndAt = now().Add(req.Timeout)
	s.add(l) // before the row: once it is listed it can be killed
	if err := s.insert(ctx, l.sandbox, req.Idempotency); err != nil {
		undo()
		return Created{}, true, err
	}
	s.tend(l)
	s.observe(ctx, EventCreated, l.sandbox)
	s.log.Info("sandbox claimed", "sandbox", l.id, "template", sandbox.Template, "agent", timings.Agent)
	return Created{Sandbox: l.sandbox, Timings: timings}, true, nil
}

// kindOf is what a sandbox must find in the pool. A template can become another with
// the snapshot that it had, and one of before is none of it.
func kindOf(sandbox cube.Sandbox, from origin) spareKind {
	defaults, _ := json.Marshal(cube.Defaults{EnvVars: from.envVars, User: from.user, Workdir: from.workdir}) // of strings
	return spareKind{from.template, from.snapshot, sandbox.Resources, sandbox.Internet, sha256.Sum256(defaults)}
}

// knows tells whether its agent needs to be told nothing to be that sandbox's: the
// sandbox is secured, and brings nothing that its template does not have.
func (one *spare) knows(sandbox cube.Sandbox) bool {
	return sandbox.AccessToken != "" && len(sandbox.Network.Authority) == 0 &&
		maps.Equal(sandbox.EnvVars, one.is.EnvVars)
}

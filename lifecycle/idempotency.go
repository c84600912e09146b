package lifecycle

import (
	"context"
	"time"

	"cube"
)

// Idempotency is the key of a create and what it was first used for.
type Idempotency = cube.Idempotency

// createOnce is Create with a key: one request at a time has the key, asks the
// store what it was used for, and creates if it was not. Those who waited do
// the same after it, and find its sandbox, or a key that is free again.
func (s *Sandboxes) createOnce(ctx context.Context, req CreateRequest) (Created, error) {
	release, err := s.acquireKey(ctx, req.Idempotency.Key)
	if err != nil {
		return Created{}, err
	}
	defer release()
	sandbox, hash, err := s.store.SandboxByKey(ctx, req.Idempotency.Key)
	switch {
	case err == nil:
		if s.mayTouch(ctx, sandbox.ID, sandbox.Owner) != nil { // made before there was a tenancy
			return Created{}, cube.Errorf(cube.Conflict, "This Idempotency-Key is in use: use a new key for each sandbox")
		}
		return replay(sandbox, hash, req.Idempotency)
	case cube.KindOf(err) != cube.NotFound:
		return Created{}, err
	}
	return s.create(context.WithoutCancel(ctx), req)
}

// acquireKey waits until no other request has the key.
func (s *Sandboxes) acquireKey(ctx context.Context, key string) (release func(), err error) {
	decided := make(chan struct{})
	for {
		s.mu.Lock()
		busy := s.creating[key]
		if busy == nil {
			s.creating[key] = decided
		}
		s.mu.Unlock()
		if busy == nil {
			break
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, cube.WrapError(cube.Unavailable, ctx.Err(), "The request ended while another one with the same Idempotency-Key was at work")
		}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.creating, key)
		close(decided)
	}, nil
}

// replay answers a request whose key was used.
func replay(sandbox cube.Sandbox, hash [32]byte, key *Idempotency) (Created, error) {
	switch {
	case hash != key.BodyHash:
		return Created{}, cube.Errorf(cube.Conflict, "This Idempotency-Key was used for another request: use a new key for each sandbox")
	case sandbox.State == cube.Running:
		return Created{Sandbox: sandbox, Replayed: true}, nil
	case sandbox.State == cube.Pausing || sandbox.State == cube.Paused || sandbox.State == cube.Resuming:
		return Created{}, cube.Errorf(cube.Conflict, "This Idempotency-Key made sandbox %s, which was paused since: connect to it", sandbox.ID)
	case sandbox.End != nil:
		return Created{}, cube.Errorf(cube.Conflict, "This Idempotency-Key made sandbox %s, which ended at %s (%s): use a new key for a new sandbox",
			sandbox.ID, sandbox.End.At.Format(time.RFC3339), sandbox.End.Reason)
	}
	return Created{}, cube.Errorf(cube.Conflict, "Sandbox %s with this Idempotency-Key is %s: try again in a moment", sandbox.ID, sandbox.State)
}

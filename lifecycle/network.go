package lifecycle

import (
	"context"
	"encoding/pem"
	"errors"
	"reflect"

	"cube"
)

// SetNetwork replaces what a running sandbox may reach, all at once; the policy is
// in the form of network/policy. It holds when SetNetwork returns, and over pauses
// and forks. When it fails the old one is in force. Kinds: NotFound, Conflict (it
// is paused), Invalid, Unsupported, Timeout, Unavailable, Internal.
func (s *Sandboxes) SetNetwork(ctx context.Context, id cube.SandboxID, internet bool, policy cube.NetworkPolicy) error {
	l, err := s.findFor(ctx, id)
	if err != nil {
		return err
	}
	release, err := s.occupyAlive(ctx, l)
	if err != nil {
		return err
	}
	defer release()
	old, err := l.running()
	if err != nil {
		return err
	}
	// What was made once stays, so that a sandbox trusts one authority for ever.
	policy.Authority = old.Network.Authority
	if policy, err = s.authorised(id, policy); err != nil {
		return err
	}
	next, err := s.saveNetwork(l, internet, policy)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentTimeout)
	defer cancel()
	if len(old.Network.Authority) == 0 && len(policy.Authority) > 0 { // before it is needed
		err = settleAgent(ctx, s.engine, next, next.HostKey, true)
	}
	if err == nil {
		err = s.setReach(ctx, next)
	}
	if err != nil {
		// The engine has the old one. An authority that was made may stay.
		back := old.Network
		back.Authority = policy.Authority
		_, failed := s.saveNetwork(l, old.Internet, back)
		return errors.Join(err, failed)
	}
	s.observe(ctx, EventNetwork, next)
	return nil
}

// repeatNetwork has the engine do what the row says, for a server that died between
// the two.
func (s *Sandboxes) repeatNetwork(l *live) {
	release, err := s.occupy(s.ctx, l)
	if err != nil {
		return
	}
	defer release()
	sandbox, err := l.running()
	if err != nil {
		return
	}
	err = s.setReach(s.ctx, sandbox)
	if err != nil && cube.KindOf(err) != cube.NotFound && s.ctx.Err() == nil {
		s.log.Error("what a sandbox may reach could not be set again", "sandbox", l.id, "error", err)
	}
}

// running is a sandbox that runs, as it is now.
func (l *live) running() (cube.Sandbox, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.sandbox.State {
	case cube.Running:
		return l.sandbox, nil
	case cube.Paused:
		return cube.Sandbox{}, cube.Errorf(cube.Conflict, "Sandbox %s is paused: resume it, and change its network then", l.id)
	case cube.Starting, cube.Pausing, cube.Resuming, cube.Killing, cube.Gone:
	}
	return cube.Sandbox{}, notFound(l.sandbox)
}

func (s *Sandboxes) saveNetwork(l *live, internet bool, policy cube.NetworkPolicy) (cube.Sandbox, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sandbox.State != cube.Running {
		return cube.Sandbox{}, notFound(l.sandbox)
	}
	next := l.sandbox
	next.Internet, next.Network = internet, policy
	return next, s.save(l, next)
}

// authorised gives a policy with rules an authority, if it has none.
func (s *Sandboxes) authorised(id cube.SandboxID, policy cube.NetworkPolicy) (cube.NetworkPolicy, error) {
	if len(policy.Rules) == 0 || len(policy.Authority) > 0 {
		return policy, nil
	}
	if s.newAuthority == nil {
		return policy, cube.Errorf(cube.Unsupported, "This server cannot change requests: leave the network rules out")
	}
	var err error
	if policy.Authority, err = s.newAuthority(id); err != nil {
		return policy, cube.WrapError(cube.Internal, err, "making the sandbox's certificate authority")
	}
	return policy, nil
}

// applyNetwork gives a sandbox that the engine started without a policy its own.
func (s *Sandboxes) applyNetwork(ctx context.Context, sandbox cube.Sandbox) error {
	if reflect.ValueOf(sandbox.Network).IsZero() {
		return nil
	}
	return s.setReach(ctx, sandbox)
}

func (s *Sandboxes) setReach(ctx context.Context, sandbox cube.Sandbox) error {
	internet, policy := sandbox.Reach()
	return s.engine.SetNetwork(ctx, sandbox.ID, internet, policy)
}

// certificateOf is the part of an authority that is no secret.
func certificateOf(authority []byte) string {
	for {
		var block *pem.Block
		if block, authority = pem.Decode(authority); block == nil {
			return ""
		}
		if block.Type == "CERTIFICATE" {
			return string(pem.EncodeToMemory(block))
		}
	}
}

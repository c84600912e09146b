package gate

import (
	"context"
	"errors"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"

	"cube"
)

// sandbox is one that stands behind the gate.
type sandbox struct {
	id  cube.SandboxID
	six netip.Addr // its second address in the gate's table; not valid without one
	// questions and unknown bound what it asks the resolver: all, and what has to
	// be asked of others, by which data could be carried out.
	questions, unknown *rate.Limiter
	asking             chan struct{} // at once

	mu      sync.Mutex // guards what follows
	rules   *rules     // nil once it has ended
	flows   map[*flow]struct{}
	servers int // connections to servers, of those that are served request by request
}

// Bounds of a sandbox's questions: so many a second, so many at once.
const (
	questionRate, questionBurst = 200, 1000
	unknownRate, unknownBurst   = 20, 300
	maxAsking                   = 64
)

func newSandbox(id cube.SandboxID, r *rules) *sandbox {
	return &sandbox{
		id: id, rules: r, flows: map[*flow]struct{}{},
		questions: rate.NewLimiter(questionRate, questionBurst),
		unknown:   rate.NewLimiter(unknownRate, unknownBurst),
		asking:    make(chan struct{}, maxAsking),
	}
}

// current are the rules of now, nil for a sandbox that has ended.
func (s *sandbox) current() *rules {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rules
}

// follow ends what new rules do not allow and lets nothing begin until the caller
// says whether they are in force.
func (s *sandbox) follow(next *rules, g *Gate) (end func(done bool)) {
	s.mu.Lock()
	if s.rules == nil { // it has just ended
		s.mu.Unlock()
		return func(bool) {}
	}
	for f := range s.flows {
		if !f.holds(next, g) {
			f.close()
		}
	}
	return func(done bool) {
		if done {
			s.rules = next
		}
		s.mu.Unlock()
	}
}

// end closes all.
func (s *sandbox) end() {
	s.mu.Lock()
	s.rules = nil
	over := s.flows
	s.flows = nil
	s.mu.Unlock()
	for f := range over {
		f.close()
	}
}

// maxNames bounds the names that one connection is used for.
const maxNames = 64

var (
	errEnded   = errors.New("the sandbox has ended")
	errTooMany = errors.New("too many connections")
)

// flow is one connection of a sandbox to the gate, and what it was allowed.
type flow struct {
	sandbox *sandbox
	target  netip.AddrPort // where the sandbox wanted to go
	ctx     context.Context
	cancel  context.CancelFunc
	client  resetter

	// guarded by sandbox.mu
	granted map[string]grant // by name
}

// grant is how something was allowed: a policy that would do it otherwise now ends
// the connection.
type grant struct {
	pinned, changed bool
	proxy           cube.EgressProxy
}

// resetter is a connection that can be cut.
type resetter interface{ reset() }

// open counts a new connection of the sandbox's.
func (s *sandbox) open(ctx context.Context, client resetter, target netip.AddrPort, limit int) (*flow, error) {
	f := &flow{sandbox: s, target: target, client: client, granted: map[string]grant{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules == nil {
		return nil, errEnded
	}
	if len(s.flows) >= limit {
		return nil, errTooMany
	}
	f.ctx, f.cancel = context.WithCancel(ctx)
	s.flows[f] = struct{}{}
	return f, nil
}

// takeServer counts a connection to a server; the sandbox may have as many as
// connections to the gate.
func (s *sandbox) takeServer(limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.servers >= limit {
		return false
	}
	s.servers++
	return true
}

func (s *sandbox) giveServer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.servers--
}

// done is for the one who opened it.
func (f *flow) done() {
	f.cancel()
	f.sandbox.mu.Lock()
	delete(f.sandbox.flows, f)
	f.sandbox.mu.Unlock()
}

// close cuts it from outside.
func (f *flow) close() {
	f.cancel()
	f.client.reset()
}

// decide asks the rules of now for a name on this connection, and holds what it
// grants against later ones.
func (f *flow) decide(g *Gate, name string) (*rules, verdict) {
	s := f.sandbox
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules == nil {
		return nil, verdict{rule: ruleEnded}
	}
	v := g.decide(s.rules, f.target.Addr(), name)
	if v.allowed {
		if len(f.granted) >= maxNames {
			return s.rules, verdict{rule: ruleLimit}
		}
		f.granted[name] = s.rules.grant(v)
	}
	return s.rules, v
}

// holds tells whether rules would grant all that was granted, as it was.
func (f *flow) holds(r *rules, g *Gate) bool {
	for name, was := range f.granted {
		if v := g.decide(r, f.target.Addr(), name); !v.allowed || r.grant(v) != was {
			return false
		}
	}
	return true
}

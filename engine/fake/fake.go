// Package fake is an engine in memory, for tests of what stands above engines,
// and the reference that the engines' conformance suite is checked against. Its
// sandboxes are goroutines: an agent that answers /health and /init over pipes,
// and whatever servers the test adds. It must never be offered to users: it
// isolates nothing.
package fake

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cube"
)

// Engine implements cube.Engine. Its fields are set before its first use. Like
// a real one's, its sandboxes outlive whoever uses it.
type Engine struct {
	// Servers listen in every sandbox, by port, besides the agent.
	Servers map[uint16]http.Handler

	// OnStart, OnStop and OnInit are called before the engine, or the agent,
	// does its work; what they return fails it. They may block, the first two
	// until their context ends. nil is the same as returning nil.
	OnStart func(context.Context, cube.StartRequest) error
	OnStop  func(context.Context, cube.SandboxID) error
	OnInit  func(cube.SandboxID) error
	// OnSetNetwork is called before a policy changes.
	OnSetNetwork func(cube.SandboxID) error

	// OnCheckpoint is called while the sandbox is frozen and nothing of the
	// snapshot exists. OnThaw and OnDiscard are called before the sandbox runs on,
	// or the snapshot goes.
	OnCheckpoint func(context.Context, cube.CheckpointRequest) error
	OnThaw       func(cube.SandboxID) error
	OnDiscard    func(context.Context, cube.SnapshotID) error

	mu        sync.Mutex
	sandboxes map[cube.SandboxID]*sandbox
	snapshots map[cube.SnapshotID]*snapshot
}

var _ cube.Engine = (*Engine)(nil)

// What the fake machine can give to one sandbox.
const (
	maxCPUs     = 128
	minMemoryMB = 16
)

// sandbox is one that was started and not stopped.
type sandbox struct {
	request cube.StartRequest
	dead    chan struct{} // closed when it runs no more
	agent   agent

	// Guarded by Engine.mu:
	running bool
	exit    cube.Exit
	network Network
	servers map[uint16]*server
	thawed  chan struct{} // closed while it is not frozen
	files   []string      // see Write
	boot    string        // stays the same as long as memory does
}

// Start implements cube.Engine.
func (e *Engine) Start(ctx context.Context, req cube.StartRequest) (cube.Timings, error) {
	from, err := e.use(req.Snapshot)
	if err != nil {
		return cube.Timings{}, err
	}
	defer e.unuse(from)
	if r := req.Resources; r.CPUs > maxCPUs || r.MemoryMB < minMemoryMB || min(r.CPUs, r.DiskMB, r.Pids) < 1 {
		return cube.Timings{}, cube.Errorf(cube.Invalid, "this machine cannot give %+v", r)
	}
	begun := time.Now()
	s := &sandbox{request: req, network: Network{req.Internet, req.Network}, dead: make(chan struct{}), thawed: make(chan struct{})}
	close(s.thawed)
	s.agent.id = req.ID
	s.agent.onInit = e.OnInit
	from.restore(s)
	if !e.add(s) {
		return cube.Timings{}, cube.Errorf(cube.Conflict, "the id %s is in use", req.ID)
	}
	if e.OnStart != nil {
		err = e.OnStart(ctx, req)
	}
	if err == nil {
		err = ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && e.sandboxes[req.ID] != s {
		err = cube.Errorf(cube.Internal, "sandbox %s was stopped while it started", req.ID)
	}
	if err != nil {
		if e.sandboxes[req.ID] == s {
			delete(e.sandboxes, req.ID)
		}
		return cube.Timings{}, err
	}
	s.servers = map[uint16]*server{cube.AgentPort: serve(e.unfrozen(s, s.agent.handler()))}
	for port, handler := range e.Servers {
		s.servers[port] = serve(e.unfrozen(s, handler))
	}
	s.running = true
	return cube.Timings{Boot: time.Since(begun)}, nil
}

func (e *Engine) add(s *sandbox) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sandboxes[s.request.ID] != nil {
		return false
	}
	if e.sandboxes == nil {
		e.sandboxes = map[cube.SandboxID]*sandbox{}
	}
	e.sandboxes[s.request.ID] = s
	return true
}

// Stop implements cube.Engine.
func (e *Engine) Stop(ctx context.Context, id cube.SandboxID) error {
	if e.OnStop != nil {
		if err := e.OnStop(ctx, id); err != nil {
			return err
		}
	}
	e.mu.Lock()
	s := e.sandboxes[id]
	delete(e.sandboxes, id)
	e.mu.Unlock()
	if s != nil {
		e.die(s, cube.Exit{Detail: "the sandbox was stopped"})
	}
	return nil
}

// Die ends a sandbox from inside, as a crash or its memory limit would. What is
// left of it stays until Stop. It tells whether the sandbox ran.
func (e *Engine) Die(id cube.SandboxID, exit cube.Exit) bool {
	e.mu.Lock()
	s := e.sandboxes[id]
	e.mu.Unlock()
	return s != nil && e.die(s, exit)
}

func (e *Engine) die(s *sandbox, exit cube.Exit) bool {
	e.mu.Lock()
	ran := s.running
	if ran {
		s.running, s.exit = false, exit
		close(s.dead)
	}
	e.mu.Unlock()
	if ran {
		for _, server := range s.servers {
			server.close()
		}
	}
	return ran
}

// Dial implements cube.Engine.
func (e *Engine) Dial(ctx context.Context, id cube.SandboxID, port uint16) (net.Conn, error) {
	s := e.find(id)
	if s == nil {
		return nil, notRunning(id)
	}
	server := s.servers[port]
	if server == nil {
		return nil, cube.Errorf(cube.Unavailable, "nothing listens on port %d of sandbox %s", port, id)
	}
	conn, err := server.dial(ctx)
	if errors.Is(err, net.ErrClosed) {
		return nil, notRunning(id)
	}
	return conn, err
}

// List implements cube.Engine; the order is that of the ids.
func (e *Engine) List(context.Context) ([]cube.EngineSandbox, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]cube.EngineSandbox, 0, len(e.sandboxes))
	for id, s := range e.sandboxes {
		list = append(list, cube.EngineSandbox{ID: id, Running: s.running})
	}
	slices.SortFunc(list, func(a, b cube.EngineSandbox) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return list, nil
}

// Wait implements cube.Engine.
func (e *Engine) Wait(ctx context.Context, id cube.SandboxID) (cube.Exit, error) {
	e.mu.Lock()
	s := e.sandboxes[id]
	e.mu.Unlock()
	if s == nil {
		return cube.Exit{}, nil
	}
	select {
	case <-s.dead:
	case <-ctx.Done():
		return cube.Exit{}, ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return s.exit, nil
}

// Stats implements cube.Engine.
func (e *Engine) Stats(_ context.Context, id cube.SandboxID) (cube.Stats, error) {
	if e.find(id) == nil {
		return cube.Stats{}, notRunning(id)
	}
	return cube.Stats{CPU: time.Millisecond, MemoryBytes: 1 << 20, Processes: 1}, nil
}

// Request returns what a sandbox was started with.
func (e *Engine) Request(id cube.SandboxID) (cube.StartRequest, bool) {
	if s := e.find(id); s != nil {
		return s.request, true
	}
	return cube.StartRequest{}, false
}

// Settings returns what a sandbox's agent was last initialised with.
func (e *Engine) Settings(id cube.SandboxID) (Settings, bool) {
	if s := e.find(id); s != nil {
		return s.agent.current()
	}
	return Settings{}, false
}

// Network is what a sandbox may reach.
type Network struct {
	Internet bool
	Policy   cube.NetworkPolicy
}

// SetNetwork implements cube.Engine.
func (e *Engine) SetNetwork(_ context.Context, id cube.SandboxID, internet bool, policy cube.NetworkPolicy) error {
	if e.OnSetNetwork != nil {
		if err := e.OnSetNetwork(id); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sandboxes[id]
	if s == nil || !s.running {
		return notRunning(id)
	}
	s.network = Network{internet, policy}
	return nil
}

// NetworkOf returns what a running sandbox may reach.
func (e *Engine) NetworkOf(id cube.SandboxID) (Network, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sandboxes[id]
	if s == nil || !s.running {
		return Network{}, false
	}
	return s.network, true
}

// find returns a sandbox that runs, nil if there is none.
func (e *Engine) find(id cube.SandboxID) *sandbox {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.sandboxes[id]; s != nil && s.running {
		return s
	}
	return nil
}

func notRunning(id cube.SandboxID) error {
	return cube.Errorf(cube.NotFound, "sandbox %s does not run", id)
}

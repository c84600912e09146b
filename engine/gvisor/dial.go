package gvisor

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"time"

	"cube"
	"cube/engine/gvisor/launch"
	"cube/envd/tunnel"
)

// The way in is the sandbox's link: TCP to its agent, and through the agent to
// every other port, so that those that are bound to 127.0.0.1 are reached too.
// It needs nothing but the address, so it works after the server was restarted.
//
// gVisor's own port forwarding does all this without a link, and loses data: it
// ignores that a write may take less than it was given, so a stream that its
// reader does not keep up with has holes.

// awaitPause is between two looks at a process that cannot be looked at.
const awaitPause = 100 * time.Millisecond

// dialTimeout bounds connecting to a sandbox of this machine, which takes less
// than a millisecond unless its kernel is stuck.
const dialTimeout = 5 * time.Second

// Dial implements cube.Engine.
func (e *Engine) Dial(ctx context.Context, id cube.SandboxID, port uint16) (net.Conn, error) {
	r, ok := e.lookup(id)
	// Packets to one that has ended go nowhere, and nobody says so.
	if !ok || !e.running(id) {
		return nil, notRunning(id)
	}
	guest := e.network.describe(r.Link).Guest.Addr().String()
	if port == cube.AgentPort {
		return e.dialAgent(ctx, id, guest, cube.AgentPort)
	}
	conn, err := e.dialAgent(ctx, id, guest, tunnel.Port)
	if err != nil {
		return nil, err
	}
	if err := tunnel.Ask(ctx, conn, port); err != nil {
		_ = conn.Close()
		if ctx.Err() == nil && !e.running(id) {
			return nil, notRunning(id)
		}
		return nil, cube.WrapError(cube.Unavailable, err, "nothing listens on port %d of sandbox %s", port, id)
	}
	return conn, nil
}

// dialAgent connects to one of the agent's own ports.
func (e *Engine) dialAgent(ctx context.Context, id cube.SandboxID, guest string, port uint16) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp4", net.JoinHostPort(guest, strconv.Itoa(int(port))))
	switch {
	case err == nil:
		return e.keepConn(id, conn.(*net.TCPConn)), nil
	case ctx.Err() == nil && !e.running(id):
		return nil, notRunning(id)
	}
	return nil, cube.WrapError(cube.Unavailable, err, "the agent of sandbox %s does not answer", id)
}

// A packet to a sandbox that has ended is answered by nobody, so whoever reads
// from a connection into it would wait for ever. So connections are remembered
// until they are closed, and closed when the sandbox's kernel ends.

// conn is a connection into a sandbox.
type conn struct {
	*net.TCPConn
	forget func()
}

func (c *conn) Close() error {
	c.forget()
	return c.TCPConn.Close()
}

// keepConn remembers a connection with its sandbox. One into a sandbox that has
// ended in the meantime is closed.
func (e *Engine) keepConn(id cube.SandboxID, tcp *net.TCPConn) net.Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sandboxes[id]
	if s == nil || s.ended {
		_ = tcp.Close()
		return tcp
	}
	if s.conns == nil {
		s.conns = map[*net.TCPConn]struct{}{}
		kernel := s.Sentry
		e.watching.Go(func() {
			e.awaitEnd(kernel)
			e.closeConns(s)
		})
	}
	s.conns[tcp] = struct{}{}
	return &conn{TCPConn: tcp, forget: func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(s.conns, tcp)
	}}
}

// awaitEnd returns when a sandbox's kernel has ended, or the engine is closed.
func (e *Engine) awaitEnd(kernel launch.Process) {
	for {
		sentry, err := findProcess(kernel)
		if err == nil {
			err = sentry.wait(e.closing)
			sentry.close()
		}
		if err == nil || errors.Is(err, os.ErrProcessDone) || e.closing.Err() != nil {
			return
		}
		select {
		case <-time.After(awaitPause):
		case <-e.closing.Done():
		}
	}
}

func (e *Engine) closeConns(s *sandbox) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for tcp := range s.conns {
		_ = tcp.Close()
	}
	s.conns, s.ended = nil, true
}

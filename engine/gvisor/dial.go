package gvisor

import (
	"context"
	"net"
	"strconv"
	"time"

	"cube"
	"cube/envd/tunnel"
)

// The way in is the sandbox's link: TCP to its agent, and through the agent to
// every other port, so that those that are bound to 127.0.0.1 are reached too.
// It needs nothing but the address, so it works after the server was restarted.
//
// gVisor's own port forwarding does all this without a link, and loses data: it
// ignores that a write may take less than it was given, so a stream that its
// reader does not keep up with has holes.

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
	guest := e.network.describe(r.Link, r.Internet).Guest.Addr().String()
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
		return conn, nil
	case ctx.Err() == nil && !e.running(id):
		return nil, notRunning(id)
	}
	return nil, cube.WrapError(cube.Unavailable, err, "the agent of sandbox %s does not answer", id)
}

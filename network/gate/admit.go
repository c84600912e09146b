package gate

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// accept gives each connection to somebody, until the gate closes.
func (g *Gate) accept(from net.Listener, admit func(*net.TCPConn)) {
	for {
		conn, err := from.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of file descriptors, say
			continue
		}
		tcp := conn.(*net.TCPConn)
		select {
		case g.slots <- struct{}{}:
			g.all.Go(func() {
				defer func() { <-g.slots }()
				admit(tcp)
			})
		default:
			reset(tcp)
		}
	}
}

// client is a sandbox's connection.
type client struct{ *net.TCPConn }

func (c client) reset() { reset(c.TCPConn) }

// reset closes a connection so that the other side notices: what ended by itself
// and what was cut must not look the same.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// admit decides about a connection and carries it.
func (g *Gate) admit(conn *net.TCPConn) {
	s := g.find(conn.RemoteAddr())
	if s == nil {
		reset(conn)
		return
	}
	target, err := g.config.original(conn)
	own := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	if err != nil || target == netip.AddrPortFrom(own.Addr().Unmap(), own.Port()) {
		g.observe(Event{Sandbox: s.id, Kind: KindTCP, Address: own.Addr().Unmap(), Port: own.Port(), Rule: ruleDirect})
		reset(conn)
		return
	}
	f, err := s.open(g.ctx, client{conn}, target, g.config.MaxConnections)
	if err != nil {
		if errors.Is(err, errTooMany) {
			g.observe(Event{Sandbox: s.id, Kind: KindTCP, Address: target.Addr(), Port: target.Port(), Rule: ruleLimit})
		}
		reset(conn)
		return
	}
	defer f.done()
	g.carry(f, conn)
}

// carry carries a connection to its end.
func (g *Gate) carry(f *flow, conn *net.TCPConn) {
	r := f.sandbox.current()
	if r == nil {
		reset(conn)
		return
	}
	byAddress := g.decide(r, f.target.Addr(), "")
	patience := g.config.silence
	if port := f.target.Port(); len(r.changes) > 0 && (port == 80 || port == 443) { // rules are for what speaks first
		patience = g.config.opening
	}
	if !byAddress.allowed {
		if byAddress.rule == ruleNone || byAddress.rule == ruleClosed || len(r.names) == 0 { // no name changes that
			g.refuse(f, KindTCP, "", byAddress)
			reset(conn)
			return
		}
		patience = g.config.opening
	}
	said, err := sniff(conn, patience, g.config.opening)
	if err != nil {
		if errors.Is(err, errOpening) {
			g.refuse(f, said.kind, "", verdict{rule: ruleLimit})
		}
		reset(conn)
		return
	}
	if said.kind == KindHTTP {
		if !byAddress.allowed || len(r.changes) > 0 {
			g.serveWeb(f, conn, said, "", nil)
			return
		}
		said.name = requestName(said.bytes)
	}
	r, v := f.decide(g, said.name)
	played := said.kind == KindTLS && v.change != nil
	switch {
	case !v.allowed, played && r.authority == nil:
		g.refuse(f, said.kind, said.name, v)
		reset(conn)
	case played:
		g.serveWeb(f, conn, said, said.name, r.authority)
	default:
		g.splice(f, r, conn, said, v)
	}
}

func (g *Gate) refuse(f *flow, kind Kind, name string, v verdict) {
	g.observe(Event{
		Sandbox: f.sandbox.id, Kind: kind, Name: name,
		Address: f.target.Addr(), Port: f.target.Port(), Rule: v.rule,
	})
}

// splice carries a connection's bytes as they are.
func (g *Gate) splice(f *flow, r *rules, conn *net.TCPConn, said opening, v verdict) {
	ctx, cancel := context.WithTimeout(f.ctx, dialTimeout)
	server, at, err := g.dial(ctx, f, r, said.name, v)
	cancel()
	if err != nil {
		g.observe(Event{
			Sandbox: f.sandbox.id, Kind: said.kind, Name: said.name, Address: at.Addr(), Port: at.Port(),
			Allowed: !errors.Is(err, errNowhere), Rule: ruleOf(err, v),
		})
		reset(conn)
		return
	}
	event := Event{
		Sandbox: f.sandbox.id, Kind: said.kind, Name: said.name, Address: at.Addr(), Port: at.Port(), Allowed: true, Rule: v.rule,
	}
	g.observe(event)
	event.Up, event.Down = pipe(conn, server, said.bytes, g.config.IdleTimeout)
	event.Ended = true
	g.observe(event)
}

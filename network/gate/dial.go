package gate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/proxy"

	"cube"
)

const (
	dialTimeout = 15 * time.Second // of all attempts
	tryTimeout  = 5 * time.Second  // of one
	maxTries    = 4
)

// errNowhere is of a name or an address that leads to nothing that is open.
var errNowhere = errors.New("no address that may be reached")

// dial connects to where a decision leads: the address that the sandbox chose if
// that is what was allowed, and one of those that the name really has if it was
// the name. The sandbox's own choice among these is kept.
func (g *Gate) dial(ctx context.Context, f *flow, r *rules, name string, v verdict) (*net.TCPConn, netip.AddrPort, error) {
	targets := []netip.Addr{f.target.Addr()}
	if v.pinned {
		found, err := g.resolver.addresses(ctx, f.sandbox, name, f.target.Addr().Is4())
		if err != nil {
			return nil, f.target, err
		}
		if i := slices.Index(found, f.target.Addr()); i > 0 {
			found[0], found[i] = found[i], found[0]
		}
		targets = slices.DeleteFunc(found, func(addr netip.Addr) bool { return !g.decide(r, addr, name).allowed })
	}
	port := f.target.Port()
	if r.proxy != nil {
		return g.dialThrough(ctx, r.proxy, targets, port, name, v)
	}
	err := errNowhere
	for _, addr := range targets[:min(len(targets), maxTries)] {
		if g.config.local(addr) {
			continue
		}
		var conn *net.TCPConn
		at := netip.AddrPortFrom(addr, port)
		if conn, err = g.connect(ctx, at); err == nil {
			return conn, at, nil
		}
	}
	return nil, f.target, err
}

func (g *Gate) connect(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: tryTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", g.config.reach(to).String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// dialThrough connects by the customer's SOCKS5 proxy. Where a name decided, the
// proxy is given the name, to find the address that is nearest to it; but one in
// the operator's own network is given addresses, which have been looked at.
func (g *Gate) dialThrough(ctx context.Context, p *cube.EgressProxy, targets []netip.Addr, port uint16, name string, v verdict) (*net.TCPConn, netip.AddrPort, error) {
	if len(targets) == 0 {
		return nil, netip.AddrPort{}, errNowhere
	}
	to := netip.AddrPortFrom(targets[0], port)
	conn, within, err := g.dialProxy(ctx, p.Address)
	if err != nil {
		return nil, to, err
	}
	host := targets[0].String()
	if v.pinned && !within {
		host = name
	}
	var credentials *proxy.Auth
	if p.Username != "" {
		credentials = &proxy.Auth{User: p.Username, Password: p.Password}
	}
	// The dialer returns a connection of its own kind; the one below it is what
	// can be spliced.
	dialer, err := proxy.SOCKS5("tcp", p.Address, credentials, &given{conn})
	if err == nil {
		_, err = dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	}
	if err != nil {
		_ = conn.Close()
		return nil, to, fmt.Errorf("by the egress proxy: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, to, nil
}

// given gives a connection that stands already.
type given struct{ conn *net.TCPConn }

func (g *given) Dial(string, string) (net.Conn, error) { return g.conn, nil }

func (g *given) DialContext(context.Context, string, string) (net.Conn, error) { return g.conn, nil }

// dialProxy connects to a proxy, and tells whether it is within the operator's
// own network.
func (g *Gate) dialProxy(ctx context.Context, address string) (conn *net.TCPConn, within bool, err error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, false, fmt.Errorf("the egress proxy's address: %w", err)
	}
	number, err := net.LookupPort("tcp", portText)
	if err != nil {
		return nil, false, fmt.Errorf("the egress proxy's address: %w", err)
	}
	addrs := []netip.Addr{}
	if addr, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, addr.Unmap())
	} else if addrs, err = g.resolver.addresses(ctx, nil, canonical(host), true); err != nil {
		return nil, false, fmt.Errorf("looking the egress proxy up: %w", err)
	}
	err = errNowhere
	for _, addr := range addrs[:min(len(addrs), maxTries)] {
		within = inRanges(addr, g.config.ProxyRanges)
		if !within && (g.closed(addr) || g.config.local(addr)) {
			continue
		}
		if conn, err = g.connect(ctx, netip.AddrPortFrom(addr, uint16(number))); err == nil { //nolint:gosec // LookupPort gives ports
			return conn, within, nil
		}
	}
	return nil, false, fmt.Errorf("connecting to the egress proxy: %w", err)
}

// ruleOf is the observer's word for why nothing came of what was allowed.
func ruleOf(err error, v verdict) string {
	if errors.Is(err, errNowhere) {
		return ruleAnswer
	}
	return v.rule
}

// Package gate stands between sandboxes and the internet where addresses alone
// do not decide: a transparent TCP proxy that knows names, and a resolver that
// filters by the same rules. The firewall redirects sandboxes' connections and
// questions here; who is not a sandbox is not served.
//
// It must never connect to an address because a sandbox says that a name is
// there, never to a closed one, and never log a secret. It knows neither how
// sandboxes run nor why they have their policies. What it does not know is
// closed: a gate that has been told of no sandbox lets nothing through.
package gate

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cube"
)

// Config is what a gate needs to know. The zero value of each field is fit for
// sandboxes that are redirected on this machine.
type Config struct {
	// Listen is the address of the gate's ports, all of this machine's by default:
	// each sandbox is redirected to the host's side of its own link.
	Listen netip.Addr
	// Listen6 is that of the port for IPv6, which is not opened without one.
	Listen6 netip.Addr
	// Upstreams are the name servers that are asked, those of /etc/resolv.conf by
	// default, as it is at the time.
	Upstreams []netip.AddrPort
	// Closed tells the addresses that no policy opens, over those that Closed has.
	Closed []netip.Prefix
	// ProxyRanges are closed ranges in which egress proxies may be.
	ProxyRanges []netip.Prefix
	// MaxConnections bounds those of one sandbox; 0 is 1024.
	MaxConnections int
	// IdleTimeout is how long a connection may carry nothing; 0 is an hour.
	IdleTimeout time.Duration
	// Roots are the PEM certificates of authorities that servers behind header
	// rules may have, beside the system's.
	Roots []byte
	// Observe is told of every decision, and of each connection's end. It must
	// not wait.
	Observe func(Event)

	// opening bounds what a client says first, in time; silence is how long a client
	// that may go anyway may say nothing before it is taken for one whose server
	// speaks first. 10 s and 0.5 s.
	opening, silence time.Duration

	// original, local and reach are replaced by tests, whose whole internet is on
	// loopback: reach is where an address really is.
	original func(*net.TCPConn) (netip.AddrPort, error)
	local    func(netip.Addr) bool
	reach    func(netip.AddrPort) netip.AddrPort
}

// Sandbox is what the gate knows of one.
type Sandbox struct {
	ID       cube.SandboxID
	IPv6     netip.Addr // its second address; not valid without one
	Internet bool       // false: all is closed, whatever the policy says
	Policy   cube.NetworkPolicy
	// Authority signs for the domains that Policy.Rules names, as NewAuthority
	// made it. Without one they are closed. It holds a key: never logged, never
	// inside a sandbox.
	Authority []byte
}

// Gate is open from New to Close.
type Gate struct {
	config   Config
	resolver *resolver
	web      *http.Server
	roots    *x509.CertPool
	served   *handOver // connections on their way to web
	stream   net.Listener
	stream6  net.Listener // nil without IPv6
	names    net.PacketConn
	nameTCP  net.Listener
	ctx      context.Context
	stop     context.CancelFunc
	all      sync.WaitGroup
	slots    chan struct{} // of all sandboxes' connections

	mu        sync.RWMutex // guards sandboxes
	sandboxes map[netip.Addr]*sandbox
}

// maxConnections bounds those of all sandboxes: each needs two of the server's
// files, and for moments four more.
func maxConnections() int {
	const most, least, each = 65536, 256, 6
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return least
	}
	return int(min(max(limit.Cur/each, least), most)) //nolint:gosec // between the two
}

// New opens the gate's ports.
func New(config Config) (*Gate, error) {
	if !config.Listen.IsValid() {
		config.Listen = netip.IPv4Unspecified()
	}
	if config.MaxConnections <= 0 {
		config.MaxConnections = 1024
	}
	if config.IdleTimeout <= 0 {
		config.IdleTimeout = time.Hour
	}
	if config.Observe == nil {
		config.Observe = func(Event) {}
	}
	if config.opening <= 0 {
		config.opening = 10 * time.Second
	}
	if config.silence <= 0 {
		config.silence = 500 * time.Millisecond
	}
	if config.original == nil {
		config.original = originalDestination
	}
	if config.local == nil {
		config.local = isLocal
	}
	if config.reach == nil {
		config.reach = func(at netip.AddrPort) netip.AddrPort { return at }
	}
	g := &Gate{
		config: config, served: newHandOver(),
		slots: make(chan struct{}, maxConnections()), sandboxes: map[netip.Addr]*sandbox{},
	}
	var err error
	if g.roots, err = trusted(config.Roots); err != nil {
		return nil, err
	}
	if err := g.listen(); err != nil {
		return nil, err
	}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.resolver = newResolver(g.ctx, config.Upstreams)
	g.web = g.newWeb()
	g.all.Go(func() { g.accept(g.stream, g.admit) })
	if g.stream6 != nil {
		g.all.Go(func() { g.accept(g.stream6, g.admit) })
	}
	g.all.Go(func() { g.accept(g.nameTCP, g.admitQuestions) })
	g.all.Go(g.serveQuestions)
	g.all.Go(func() { _ = g.web.Serve(g.served) })
	return g, nil
}

func (g *Gate) listen() (err error) {
	any := netip.AddrPortFrom(g.config.Listen, 0).String()
	if g.stream, err = net.Listen("tcp", any); err != nil {
		return fmt.Errorf("opening the gate's port: %w", err)
	}
	if g.config.Listen6.IsValid() {
		if g.stream6, err = net.Listen("tcp6", netip.AddrPortFrom(g.config.Listen6, 0).String()); err != nil {
			_ = g.stream.Close()
			return fmt.Errorf("opening the gate's port for IPv6: %w", err)
		}
	}
	// A port is free for both protocols only by luck: try a few.
	for range 10 {
		if g.names, err = net.ListenPacket("udp", any); err != nil {
			break
		}
		if g.nameTCP, err = net.Listen("tcp", g.names.LocalAddr().String()); err == nil {
			return nil
		}
		_ = g.names.Close()
	}
	_ = g.closeStreams()
	return fmt.Errorf("opening the resolver's port: %w", err)
}

// Port is where the firewall redirects TCP connections.
func (g *Gate) Port() uint16 { return uint16(g.stream.Addr().(*net.TCPAddr).Port) } //nolint:gosec // a port

// Port6 is the same for IPv6, 0 without.
func (g *Gate) Port6() uint16 {
	if g.stream6 == nil {
		return 0
	}
	return uint16(g.stream6.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
}

// NamePort is where the firewall redirects DNS, UDP and TCP.
func (g *Gate) NamePort() uint16 { return uint16(g.names.LocalAddr().(*net.UDPAddr).Port) } //nolint:gosec // a port

// Set is Begin, with nothing in between.
func (g *Gate) Set(guest netip.Addr, s Sandbox) error {
	end, err := g.Begin(guest, s)
	if err == nil {
		end(true)
	}
	return err
}

// Begin tells of a sandbox, or gives it another policy: what that does not allow
// has ended, and what begins waits until end says whether the new policy is in
// force everywhere. In between nothing goes that one of the two does not allow.
// end must be called, soon. An error leaves the sandbox as it was.
func (g *Gate) Begin(guest netip.Addr, s Sandbox) (end func(done bool), err error) {
	next, err := newRules(s)
	if err != nil {
		return nil, fmt.Errorf("the network policy of sandbox %s: %w", s.ID, err)
	}
	guest = guest.Unmap()
	g.mu.RLock()
	now := g.sandboxes[guest]
	g.mu.RUnlock()
	if now != nil && now.id == s.ID && now.six == s.IPv6 {
		return now.follow(next, g), nil
	}
	return func(done bool) {
		if done {
			g.put(guest, s, next)
		}
	}, nil
}

// put remembers a new sandbox, in place of whose address it was.
func (g *Gate) put(guest netip.Addr, s Sandbox, r *rules) {
	is := newSandbox(s.ID, r)
	g.mu.Lock()
	was := g.forget(guest)
	g.sandboxes[guest] = is
	if is.six = s.IPv6; is.six.IsValid() {
		g.sandboxes[is.six] = is
	}
	g.mu.Unlock()
	if was != nil {
		was.end()
	}
}

// forget takes a sandbox's addresses out of the table, and returns whose they
// were. g.mu is held.
func (g *Gate) forget(guest netip.Addr) *sandbox {
	gone := g.sandboxes[guest]
	if gone != nil && g.sandboxes[gone.six] == gone {
		delete(g.sandboxes, gone.six)
	}
	delete(g.sandboxes, guest)
	return gone
}

// Remove forgets the sandbox at an address and closes its connections.
func (g *Gate) Remove(guest netip.Addr) {
	g.mu.Lock()
	gone := g.forget(guest.Unmap())
	g.mu.Unlock()
	if gone != nil {
		gone.end()
	}
}

// find returns who is at an address, nil for nobody.
func (g *Gate) find(guest net.Addr) *sandbox {
	addr, err := netip.ParseAddrPort(guest.String())
	if err != nil {
		return nil
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.sandboxes[addr.Addr().Unmap()]
}

func (g *Gate) closeStreams() error {
	if g.stream6 == nil {
		return g.stream.Close()
	}
	return errors.Join(g.stream.Close(), g.stream6.Close())
}

// Close closes the gate and all that goes through it.
func (g *Gate) Close() error {
	g.stop()
	err := errors.Join(g.closeStreams(), g.names.Close(), g.nameTCP.Close())
	g.mu.Lock()
	gone := g.sandboxes
	g.sandboxes = map[netip.Addr]*sandbox{}
	g.mu.Unlock()
	for _, s := range gone {
		s.end()
	}
	err = errors.Join(err, g.web.Close())
	g.all.Wait()
	g.resolver.close()
	return err
}

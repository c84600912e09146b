package gate

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"cube"
)

// Event is one decision, or the end of a connection that was allowed.
type Event struct {
	Time    time.Time
	Sandbox cube.SandboxID
	Kind    Kind
	// Name is what the sandbox said where it goes, as rules compare it; "" for
	// none. It is the sandbox's word, but where it went by a name that is where the
	// name is.
	Name string
	// Address and Port are where it went or wanted to go; of a question the address
	// is not valid and the port is 53.
	Address netip.Addr
	Port    uint16
	Allowed bool
	// Rule is the entry of the policy that decided, or a word for what else did.
	Rule string
	// Up and Down are the bytes that went out and came in; of an end alone.
	Up, Down int64
	Ended    bool
}

// Kind is what was decided on.
type Kind string

// The kinds.
const (
	KindTCP  Kind = "tcp"  // a connection that says no name that the gate can read
	KindTLS  Kind = "tls"  // by the name in its first message
	KindHTTP Kind = "http" // a request, by its Host
	KindDNS  Kind = "dns"  // a question

	// What the firewall refuses by its address; TCP that it refuses is KindTCP.
	KindUDP  Kind = "udp"
	KindICMP Kind = "icmp"
	KindIP   Kind = "ip" // any other protocol
)

func (g *Gate) observe(e Event) {
	e.Time = time.Now()
	g.config.Observe(e)
}

// Refusal is what the firewall has refused.
type Refusal struct {
	Guest    netip.Addr     // whose address the packet came from, which the firewall has looked at
	To       netip.AddrPort // the port is 0 where there is none
	Protocol byte           // IANA's number
	Limit    bool           // for there were too many
	Machine  bool           // for it was to this machine
}

// Refused tells the observer of what the firewall has refused; of nobody's it does
// not.
func (g *Gate) Refused(r Refusal) {
	g.mu.RLock()
	s := g.sandboxes[r.Guest.Unmap()]
	g.mu.RUnlock()
	if s == nil {
		return
	}
	e := Event{Sandbox: s.id, Kind: KindIP, Address: r.To.Addr().Unmap(), Port: r.To.Port()}
	switch r.Protocol {
	case unix.IPPROTO_TCP:
		e.Kind = KindTCP
	case unix.IPPROTO_UDP:
		e.Kind = KindUDP
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		e.Kind = KindICMP
	}
	var allowed bool
	allowed, e.Rule = g.ByAddress(r.Guest, e.Address)
	switch {
	case r.Limit:
		e.Rule = ruleLimit
	case r.Machine:
		e.Rule = ruleClosed
	case allowed: // now
		e.Rule = ruleBefore
	}
	g.observe(e)
}

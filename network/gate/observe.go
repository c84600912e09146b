package gate

import (
	"net/netip"
	"time"

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
)

func (g *Gate) observe(e Event) {
	e.Time = time.Now()
	g.config.Observe(e)
}

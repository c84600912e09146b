package cube

// NetworkPolicy is what a sandbox may reach. What is closed to all (private
// ranges, link-local addresses, the host, other sandboxes) no policy opens. The
// zero value opens all else.
type NetworkPolicy struct {
	// AllowOut are addresses, ranges and domains, in the form that network/policy
	// gives them. Who is named here is allowed, whatever DenyOut says.
	AllowOut []string `json:",omitempty"`
	// DenyOut are addresses and ranges.
	DenyOut []string `json:",omitempty"`
	// Rules change requests to domains, by domain.
	Rules map[string]NetworkRule `json:",omitempty"`
	// EgressProxy carries all connections that go out, nil for none.
	EgressProxy *EgressProxy `json:",omitempty"`
	// Authority signs for the domains of Rules, and is the sandbox's own: a key and
	// a certificate, in PEM. A secret: never logged, never shown, and of it only the
	// certificate goes inside. Empty for a sandbox that never had Rules.
	Authority []byte `json:",omitempty"`
}

// AllTraffic in DenyOut closes all that AllowOut does not name.
const AllTraffic = "0.0.0.0/0"

// Reach is what an engine is told that a sandbox may reach: without Internet all is
// denied, as E2B has it, and what AllowOut names may be reached all the same.
func (s Sandbox) Reach() (internet bool, policy NetworkPolicy) {
	if s.Internet || len(s.Network.AllowOut) == 0 {
		return s.Internet, s.Network
	}
	policy = s.Network
	policy.DenyOut = append([]string{AllTraffic}, policy.DenyOut...)
	return true, policy
}

// NetworkRule is what is changed in HTTP requests to a domain.
type NetworkRule struct {
	// Headers are set, in place of those that the sandbox sent. They may hold
	// secrets: never logged, and never inside the sandbox.
	Headers map[string]string
}

// EgressProxy is a SOCKS5 proxy of the customer's.
type EgressProxy struct {
	Address  string // host:port
	Username string
	Password string // a secret: never logged
}

// Ingress is who may reach a sandbox's ports that are not the agent's, and how.
type Ingress struct {
	// MaskRequestHost is the Host that servers inside see, with ${PORT} for the
	// port; "" for what the client sent.
	MaskRequestHost string `json:",omitempty"`
	// HTTPSPorts are ports behind which the server inside speaks TLS.
	HTTPSPorts []int `json:",omitempty"`
}

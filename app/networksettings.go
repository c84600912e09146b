package app

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"cube/engine/gvisor"
	"cube/network/gate"
)

// NetworkSettings are of the sandboxes' way out.
type NetworkSettings struct {
	SandboxIPv6     string       `name:"sandbox-ipv6" env:"CUBE_SANDBOX_IPV6" enum:"auto,on,off" default:"auto" group:"sandboxes" help:"Whether sandboxes reach the internet by IPv6 too: auto if this machine has a default route of it when the server starts, and can forward it; on, or the server does not start; off."`
	SandboxNetwork6 netip.Prefix `name:"sandbox-network6" env:"CUBE_SANDBOX_NETWORK6" default:"fd63:7562:6500::/64" placeholder:"CIDR" group:"sandboxes" help:"IPv6 network of fc00::/7 to give the sandboxes' addresses from. Nothing outside this machine sees it."`

	SandboxBandwidth      int `env:"CUBE_SANDBOX_BANDWIDTH" default:"0" placeholder:"MBITS" group:"sandboxes" help:"What a sandbox may send and what it may receive, in Mbit/s each; 0 for as much as the machine can."`
	SandboxConnections    int `env:"CUBE_SANDBOX_CONNECTIONS" default:"10000" placeholder:"N" group:"sandboxes" help:"Connections that a sandbox may have opened at once, of TCP and of all else; 0 for as many as it likes."`
	SandboxConnectionRate int `env:"CUBE_SANDBOX_CONNECTION_RATE" default:"1000" placeholder:"N" group:"sandboxes" help:"New connections that a sandbox may open in a second, for some time twice as many; 0 for as many as it likes."`

	DNSUpstream         []string       `name:"dns-upstream" env:"CUBE_DNS_UPSTREAM" placeholder:"IP" group:"sandboxes" help:"Name servers (IP or IP:PORT, several with commas) that are asked for sandboxes; without any, those of this machine's /etc/resolv.conf."`
	EgressProxyNetworks []netip.Prefix `name:"egress-proxy-networks" env:"CUBE_EGRESS_PROXY_NETWORKS" placeholder:"CIDR" group:"sandboxes" help:"Private networks (several with commas) in which customers' egress proxies may be. Without any, a proxy must be on the internet: whoever creates a sandbox makes this server connect to it."`
	RuleCA              string         `name:"rule-ca" env:"CUBE_RULE_CA" placeholder:"FILE" group:"sandboxes" help:"Certificates (PEM) of authorities, beside the system's, that servers behind network rules may have: rules change requests, so it is this server that checks them."`
}

// maxLimit is more than any machine has of what is limited.
const maxLimit = 1_000_000

func (s *NetworkSettings) validateNetwork() error {
	for _, limit := range []struct {
		flag  string
		value int
	}{
		{"--sandbox-bandwidth", s.SandboxBandwidth},
		{"--sandbox-connections", s.SandboxConnections},
		{"--sandbox-connection-rate", s.SandboxConnectionRate},
	} {
		if limit.value < 0 || limit.value > maxLimit {
			return fmt.Errorf("%s %d: write a number up to %d, or 0 for no limit", limit.flag, limit.value, maxLimit)
		}
	}
	if _, err := s.upstreams(); err != nil {
		return err
	}
	_, err := s.ruleRoots()
	return err
}

func (s *NetworkSettings) upstreams() (servers []netip.AddrPort, err error) {
	for _, text := range s.DNSUpstream {
		server, err := netip.ParseAddrPort(text)
		if addr, failed := netip.ParseAddr(text); failed == nil {
			server, err = netip.AddrPortFrom(addr, 53), nil
		}
		if err != nil {
			return nil, fmt.Errorf("--dns-upstream %q: write an IP address, with a port or without, such as 192.0.2.53", text)
		}
		servers = append(servers, server)
	}
	return servers, nil
}

func (s *NetworkSettings) ruleRoots() ([]byte, error) {
	if s.RuleCA == "" {
		return nil, nil
	}
	roots, err := os.ReadFile(s.RuleCA)
	if err != nil {
		return nil, fmt.Errorf("--rule-ca: %w", err)
	}
	return roots, nil
}

// network6 is the sandboxes' network of IPv6, not valid if they are to have none.
func (s *NetworkSettings) network6(log *slog.Logger) netip.Prefix {
	switch s.SandboxIPv6 {
	case "on":
		return s.SandboxNetwork6
	case "auto":
		err := gvisor.IPv6Ready(true)
		if err == nil {
			return s.SandboxNetwork6
		}
		log.Info("sandboxes have no IPv6", "why", err)
	}
	return netip.Prefix{}
}

// linkLimits are those of each sandbox's link.
func (s *NetworkSettings) linkLimits() gvisor.LinkLimits {
	return gvisor.LinkLimits{Bandwidth: s.SandboxBandwidth, Connections: s.SandboxConnections, ConnectionRate: s.SandboxConnectionRate}
}

// gateConnections are those of a sandbox through the gate, which has two of the
// server's files for each; 0 for the gate's own bound.
func (s *NetworkSettings) gateConnections() int {
	if s.SandboxConnections < 1024 {
		return s.SandboxConnections
	}
	return 0
}

// openGate opens what stands between sandboxes and the internet.
func openGate(s Settings, network6 netip.Prefix, observe func(gate.Event)) (*gate.Gate, error) {
	upstreams, err := s.upstreams()
	if err != nil {
		return nil, err
	}
	roots, err := s.ruleRoots()
	if err != nil {
		return nil, err
	}
	var listen6 netip.Addr
	closed := []netip.Prefix{s.SandboxNetwork}
	if network6.IsValid() {
		listen6, closed = netip.IPv6Unspecified(), append(closed, network6)
	}
	return gate.New(gate.Config{
		Listen6: listen6, Upstreams: upstreams, Roots: roots, Closed: closed, ProxyRanges: s.EgressProxyNetworks,
		Observe: observe, MaxConnections: s.gateConnections(),
	})
}

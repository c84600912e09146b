package app

import (
	"fmt"
	"net/netip"
	"os"

	"cube/network/gate"
)

// NetworkSettings are of the sandboxes' way out.
type NetworkSettings struct {
	DNSUpstream         []string       `name:"dns-upstream" env:"CUBE_DNS_UPSTREAM" placeholder:"IP" group:"sandboxes" help:"Name servers (IP or IP:PORT, several with commas) that are asked for sandboxes; without any, those of this machine's /etc/resolv.conf."`
	EgressProxyNetworks []netip.Prefix `name:"egress-proxy-networks" env:"CUBE_EGRESS_PROXY_NETWORKS" placeholder:"CIDR" group:"sandboxes" help:"Private networks (several with commas) in which customers' egress proxies may be. Without any, a proxy must be on the internet: whoever creates a sandbox makes this server connect to it."`
	RuleCA              string         `name:"rule-ca" env:"CUBE_RULE_CA" placeholder:"FILE" group:"sandboxes" help:"Certificates (PEM) of authorities, beside the system's, that servers behind network rules may have: rules change requests, so it is this server that checks them."`
}

func (s *NetworkSettings) validateNetwork() error {
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

// openGate opens what stands between sandboxes and the internet.
func openGate(s Settings, observe func(gate.Event)) (*gate.Gate, error) {
	upstreams, err := s.upstreams()
	if err != nil {
		return nil, err
	}
	roots, err := s.ruleRoots()
	if err != nil {
		return nil, err
	}
	return gate.New(gate.Config{
		Upstreams: upstreams, Roots: roots, Closed: []netip.Prefix{s.SandboxNetwork}, ProxyRanges: s.EgressProxyNetworks,
		Observe: observe,
	})
}

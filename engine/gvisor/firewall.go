package gvisor

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"cube/engine/gvisor/launch"
)

// closedRanges are what no sandbox may reach, whatever its policy says: the
// operator's own networks, this machine, and what is no place on the internet.
// From IANA's IPv4 special-purpose address registry, without the three
// documentation networks, which lead nowhere.
var closedRanges = []string{
	"0.0.0.0/8",      // this network
	"10.0.0.0/8",     // private: RFC 1918
	"100.64.0.0/10",  // shared, behind carriers' NAT: RFC 6598
	"127.0.0.0/8",    // loopback
	"169.254.0.0/16", // link-local, the clouds' metadata services among them
	"172.16.0.0/12",  // private
	"192.0.0.0/24",   // protocol assignments
	"192.168.0.0/16", // private
	"198.18.0.0/15",  // benchmarks: RFC 2544
	"224.0.0.0/4",    // multicast
	"240.0.0.0/4",    // reserved, and broadcast
}

// The rules' words in nftables' own language, for `nft list table inet NAME`. P is
// the prefix of the sandboxes' interfaces. What has "ip" in it is there for IPv6
// too, if sandboxes have that.
//
//	chain first {                                      before all else
//	  iifname "P*" meta nfproto ipv6 jump known6      or drop, without IPv6
//	}
//	chain known6 {
//	  fib saddr . iif oif missing drop                only from the address that was given
//	  ip6 nexthdr { tcp, udp } accept
//	  ip6 nexthdr icmpv6 icmpv6 type { errors, echo-request } accept
//	  drop                                            other headers; neighbours, routers, groups
//	}
//	chain forward {
//	  iifname "P*" meta nfproto ipv6 ct state invalid drop   it would leave with its own address
//	  iifname "P*" ip hdrlength != 5 drop             no options: nobody chooses a route
//	  iifname "P*" fib saddr . iif oif missing drop   only from the address that was given
//	  iifname "P*" ip daddr @closed jump refused      the operator's networks, other sandboxes
//	  iifname "P*" ip saddr vmap @policies            what each sandbox may reach: policies.go
//	  iifname "P*" drop                               one of which nobody has said anything
//	  oifname "P*" ct state established,related accept
//	  oifname "P*" drop                               nobody outside begins
//	}
//	chain refused { log…; meta l4proto tcp reject with tcp reset; reject with icmpx admin-prohibited }
//	chain prerouting {                                 to the gate
//	  iifname "P*" ip daddr NAMESERVER meta l4proto { udp, tcp } th dport 53 redirect to :NAMES
//	  iifname "P*" ip saddr @proxied meta l4proto tcp redirect to :GATE
//	  iifname "P*" ip saddr @gated tcp dport { 80, 443 } redirect to :GATE
//	}
//	chain input {
//	  iifname "P*" ip hdrlength != 5 drop
//	  iifname "P*" fib saddr . iif oif missing drop      nobody speaks in another's connection
//	  iifname "P*" ct state established,related accept   answers to the server
//	  iifname "P*" ct status dnat th dport { GATE, NAMES } accept
//	  iifname "P*" log…; drop                         the host itself
//	}
//	chain output      { oifname "P*" meta skuid != 0 drop }   other users of this machine
//	chain postrouting { ip saddr POOL oifname != "P*" masquerade }
//	chain uplink-LINK { iifname LINK meta nfproto ipv6 oifname != "P*" ct state != established,related drop }

// The names of what policies.go changes.
const (
	closedSet    = "closed"
	policiesMap  = "policies"
	gatedSet     = "gated"
	proxiedSet   = "proxied"
	refusedChain = "refused"
)

// installRules puts the table in place in one transaction, in place of one of
// the same name. It needs root: nftables belongs to the network's administrator.
func (n *network) installRules() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: n.table, Family: nftables.TableFamilyINet}
	c.AddTable(t) // so that there is one to delete
	c.DelTable(t)
	c.AddTable(t)

	from := matchInterface(expr.MetaKeyIIFNAME, n.prefix, expr.CmpOpEq)
	to := matchInterface(expr.MetaKeyOIFNAME, n.prefix, expr.CmpOpEq)
	drop, accept := verdict(expr.VerdictDrop), verdict(expr.VerdictAccept)

	refused := c.AddChain(&nftables.Chain{Name: refusedChain, Table: t})
	tell := newTeller(c, t)
	tell(refused, refusedByPolicy)
	reject(c, refused)

	closeUnknownIPv6(c, t, from, slices.Contains(n.families(), ipv6))
	forward := chain(c, t, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	input := chain(c, t, "input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	postrouting := chain(c, t, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	var prerouting *nftables.Chain
	if n.gate != nil {
		prerouting = chain(c, t, "prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	}

	rule(c, forward, from, ipv6.is(), stateIs(expr.CtStateBitINVALID), drop)
	rule(c, forward, from, ipv4.is(), hasOptions(), drop)
	rule(c, input, from, ipv4.is(), hasOptions(), drop)
	for _, f := range n.families() {
		rule(c, input, from, f.is(), sourceNotRoutedBack(), drop)
	}
	rule(c, input, from, established(), accept)
	for _, f := range n.families() {
		closed := f.set(t, closedSet)
		closed.Interval = true
		elements, err := rangeElements(f.closed(n.pool))
		if err != nil {
			return err
		}
		policies, gated, proxied := f.policies(t), f.set(t, gatedSet), f.set(t, proxiedSet)
		if err := errors.Join(c.AddSet(closed, elements), c.AddSet(policies, nil), c.AddSet(gated, nil), c.AddSet(proxied, nil)); err != nil {
			return err
		}
		rule(c, forward, from, f.is(), sourceNotRoutedBack(), drop)
		rule(c, forward, from, f.is(), f.addressIn(f.destination, closed), jump(refusedChain))
		rule(c, forward, from, f.is(), f.verdictOfSource(policies))
		rule(c, postrouting, f.is(), f.sourceIn(n.poolOf(f)),
			matchInterface(expr.MetaKeyOIFNAME, n.prefix, expr.CmpOpNeq), []expr.Any{&expr.Masq{}})
		if n.gate == nil {
			continue
		}
		port := f.gatePort(n.gate)
		rule(c, input, from, f.is(), redirected(), transport(unix.IPPROTO_TCP), destinationPort(port), accept)
		if f == ipv4 {
			names := netip.MustParseAddr(launch.NameServer)
			for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
				rule(c, input, from, f.is(), redirected(), transport(protocol), destinationPort(n.gate.NamePort()), accept)
				rule(c, prerouting, from, f.is(), f.destinationIs(names), transport(protocol), destinationPort(53), redirectTo(n.gate.NamePort()))
			}
		}
		rule(c, prerouting, from, f.is(), f.addressIn(f.source, proxied), transport(unix.IPPROTO_TCP), redirectTo(port))
		for _, web := range []uint16{80, 443} {
			rule(c, prerouting, from, f.is(), f.addressIn(f.source, gated), transport(unix.IPPROTO_TCP), destinationPort(web), redirectTo(port))
		}
	}
	rule(c, forward, from, drop)
	rule(c, forward, to, established(), accept)
	rule(c, forward, to, drop)
	tell(input, refusedByMachine, from)
	rule(c, input, from, drop)

	output := chain(c, t, "output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)
	rule(c, output, to, notRoot(), drop)
	for _, uplink := range n.guarded {
		guardUplink(c, t, uplink, n.prefix)
	}
	return c.Flush()
}

// removeRules removes the tables; one that is not there is no error.
func removeRules(table string) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	for _, name := range []string{table, limitsTable(table)} {
		t := &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
		c.AddTable(t)
		c.DelTable(t)
	}
	return c.Flush()
}

package gvisor

import (
	"errors"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"cube/engine/gvisor/launch"
	"cube/network/gate"
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
// the prefix of the sandboxes' interfaces:
//
//	chain forward {
//	  iifname "P*" meta nfproto ipv6 drop             nothing but IPv4 comes out
//	  iifname "P*" fib saddr . iif oif missing drop   only from the address that was given
//	  iifname "P*" ip daddr @closed jump refused      the operator's networks, other sandboxes
//	  iifname "P*" ip saddr vmap @policies            what each sandbox may reach: policies.go
//	  iifname "P*" drop                               one of which nobody has said anything
//	  oifname "P*" ct state established,related accept
//	  oifname "P*" drop                               nobody outside begins
//	}
//	chain refused { meta l4proto tcp reject with tcp reset; reject with icmp admin-prohibited }
//	chain prerouting {                                 to the gate
//	  iifname "P*" ip daddr NAMESERVER meta l4proto { udp, tcp } th dport 53 redirect to :NAMES
//	  iifname "P*" ip saddr @proxied meta l4proto tcp redirect to :GATE
//	  iifname "P*" ip saddr @gated tcp dport { 80, 443 } redirect to :GATE
//	}
//	chain input {
//	  iifname "P*" ct state established,related accept   answers to the server
//	  iifname "P*" fib saddr . iif oif missing drop
//	  iifname "P*" ct status dnat th dport { GATE, NAMES } accept
//	  iifname "P*" drop                               the host itself
//	}
//	chain output      { oifname "P*" meta skuid != 0 drop }   other users of this machine
//	chain postrouting { ip saddr POOL oifname != "P*" masquerade }

// The names of what policies.go changes.
const (
	policiesMap  = "policies"
	gatedSet     = "gated"
	proxiedSet   = "proxied"
	refusedChain = "refused"
)

// installRules puts the table in place in one transaction, in place of one of
// the same name. It needs root: nftables belongs to the network's administrator.
func installRules(table, interfacePrefix string, pool netip.Prefix, g *gate.Gate) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: table, Family: nftables.TableFamilyINet}
	c.AddTable(t) // so that there is one to delete
	c.DelTable(t)
	c.AddTable(t)

	closed := &nftables.Set{Table: t, Name: "closed", KeyType: nftables.TypeIPAddr, Interval: true}
	elements, err := rangeElements(append([]string{pool.String()}, closedRanges...))
	if err != nil {
		return err
	}
	policies := &nftables.Set{Table: t, Name: policiesMap, KeyType: nftables.TypeIPAddr, IsMap: true, DataType: nftables.TypeVerdict}
	gated := &nftables.Set{Table: t, Name: gatedSet, KeyType: nftables.TypeIPAddr}
	proxied := &nftables.Set{Table: t, Name: proxiedSet, KeyType: nftables.TypeIPAddr}
	if err := errors.Join(c.AddSet(closed, elements), c.AddSet(policies, nil), c.AddSet(gated, nil), c.AddSet(proxied, nil)); err != nil {
		return err
	}

	from := matchInterface(expr.MetaKeyIIFNAME, interfacePrefix, expr.CmpOpEq)
	to := matchInterface(expr.MetaKeyOIFNAME, interfacePrefix, expr.CmpOpEq)
	four := matchProtocol(unix.NFPROTO_IPV4)
	drop, accept := verdict(expr.VerdictDrop), verdict(expr.VerdictAccept)

	refused := c.AddChain(&nftables.Chain{Name: refusedChain, Table: t})
	reject(c, refused)

	forward := chain(c, t, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	rule(c, forward, from, matchProtocol(unix.NFPROTO_IPV6), drop)
	rule(c, forward, from, four, sourceNotRoutedBack(), drop)
	rule(c, forward, from, four, addressIn(destinationOffset, closed), jump(refusedChain))
	rule(c, forward, from, four, verdictOfSource(policies))
	rule(c, forward, from, drop)
	rule(c, forward, to, established(), accept)
	rule(c, forward, to, drop)

	input := chain(c, t, "input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	rule(c, input, from, established(), accept)
	if g != nil {
		rule(c, input, from, four, sourceNotRoutedBack(), drop)
		rule(c, input, from, four, redirected(), transport(unix.IPPROTO_TCP), destinationPort(g.Port()), accept)
		prerouting := chain(c, t, "prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
		for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			rule(c, input, from, four, redirected(), transport(protocol), destinationPort(g.NamePort()), accept)
			rule(c, prerouting, from, four, destinationIs(netip.MustParseAddr(launch.NameServer)), transport(protocol), destinationPort(53), redirectTo(g.NamePort()))
		}
		rule(c, prerouting, from, four, addressIn(sourceOffset, proxied), transport(unix.IPPROTO_TCP), redirectTo(g.Port()))
		for _, port := range []uint16{80, 443} {
			rule(c, prerouting, from, four, addressIn(sourceOffset, gated), transport(unix.IPPROTO_TCP), destinationPort(port), redirectTo(g.Port()))
		}
	}
	rule(c, input, from, drop)

	output := chain(c, t, "output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)
	rule(c, output, to, notRoot(), drop)

	postrouting := chain(c, t, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	rule(c, postrouting, four, sourceIn(pool),
		matchInterface(expr.MetaKeyOIFNAME, interfacePrefix, expr.CmpOpNeq), []expr.Any{&expr.Masq{}})
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

package gvisor

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"cube/engine/gvisor/launch"
	"cube/network/gate"
)

// family is what the rules for IPv4 and those for IPv6 differ in.
type family struct {
	suffix              string // of the names of sets and chains
	protocol            byte
	key                 nftables.SetDatatype
	length              uint32 // of an address
	source, destination uint32 // where they stand in the header
}

var (
	ipv4 = family{"", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 4, 12, 16}   // RFC 791, 3.1
	ipv6 = family{"6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 16, 8, 24} // RFC 8200, 3
)

func (f family) is() []expr.Any { return matchProtocol(f.protocol) }

func (f family) has(addr netip.Addr) bool { return addr.BitLen() == 8*int(f.length) }

func (f family) guest(n launch.Network) netip.Addr {
	if f == ipv6 {
		return n.Guest6.Addr()
	}
	return n.Guest.Addr()
}

// closed are what no sandbox may reach.
func (f family) closed(pool netip.Prefix) []string {
	if f == ipv4 {
		return append([]string{pool.String()}, closedRanges...)
	}
	var all []string // the pool is of a range among them
	for _, r := range gate.ClosedRanges6() {
		all = append(all, r.String())
	}
	return all
}

// gatePort is where the gate takes connections.
func (f family) gatePort(g *gate.Gate) uint16 {
	if f == ipv6 {
		return g.Port6()
	}
	return g.Port()
}

// set is one that the table has, or is to have, of this family.
func (f family) set(t *nftables.Table, name string) *nftables.Set {
	return &nftables.Set{Table: t, Name: name + f.suffix, KeyType: f.key}
}

// policies is the map from a sandbox's address to what it may reach.
func (f family) policies(t *nftables.Table) *nftables.Set {
	m := f.set(t, policiesMap)
	m.IsMap, m.DataType = true, nftables.TypeVerdict
	return m
}

func (f family) load(offset uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.length}
}

func (f family) addressIn(offset uint32, set *nftables.Set) []expr.Any {
	return []expr.Any{
		f.load(offset),
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
	}
}

// verdictOfSource goes where a map sends the source's address.
func (f family) verdictOfSource(policies *nftables.Set) []expr.Any {
	return []expr.Any{
		f.load(f.source),
		&expr.Lookup{SourceRegister: 1, SetName: policies.Name, SetID: policies.ID, IsDestRegSet: true},
	}
}

func (f family) destinationIs(addr netip.Addr) []expr.Any {
	return []expr.Any{
		f.load(f.destination),
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr.AsSlice()},
	}
}

func (f family) sourceIn(pool netip.Prefix) []expr.Any {
	mask := make([]byte, f.length)
	for bit := range pool.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return []expr.Any{
		f.load(f.source),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.length, Mask: mask, Xor: make([]byte, f.length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: pool.Addr().AsSlice()},
	}
}

// networks are the ranges of this family that are denied or allowed. What denies
// all IPv4 is E2B's ALL_TRAFFIC, which is meant to deny all; and who may not reach
// an IPv4 address may not by a translator either. Nothing is allowed by the like.
func (f family) networks(prefixes []netip.Prefix, denied bool) (networks []string) {
	for _, prefix := range prefixes {
		switch {
		case f.has(prefix.Addr()):
			networks = append(networks, prefix.String())
		case f == ipv6 && denied && prefix.Bits() == 0:
			networks = append(networks, "::/0")
		case f == ipv6 && denied:
			networks = append(networks, gate.Translated(prefix).String())
		}
	}
	return networks
}

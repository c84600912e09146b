package gvisor

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
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

// The rules' words in nftables' own language, for `nft list table inet NAME`:
//
//	chain forward {
//	  iifname "Px*" drop                          those that may reach nothing
//	  iifname "P*" meta nfproto ipv6 drop         nothing but IPv4 comes out
//	  iifname "P*" fib saddr . iif oif missing drop   only from the address that was given
//	  iifname "P*" ip daddr @closed drop          the operator's networks, other sandboxes
//	  oifname "P*" ct state established,related accept
//	  oifname "P*" drop                           nobody outside begins
//	}
//	chain input {
//	  iifname "P*" ct state established,related accept   answers to the server
//	  iifname "P*" drop                           the host itself
//	}
//	chain output      { oifname "P*" meta skuid != 0 drop }   other users of this machine
//	chain postrouting { ip saddr POOL oifname != "P*" masquerade }

// installRules puts the table in place in one transaction, in place of one of
// the same name. It needs root: nftables belongs to the network's administrator.
func installRules(table, interfacePrefix string, pool netip.Prefix) error {
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
	if err := c.AddSet(closed, elements); err != nil {
		return err
	}

	from := matchInterface(expr.MetaKeyIIFNAME, interfacePrefix, expr.CmpOpEq)
	to := matchInterface(expr.MetaKeyOIFNAME, interfacePrefix, expr.CmpOpEq)
	drop, accept := verdict(expr.VerdictDrop), verdict(expr.VerdictAccept)

	fromClosed := matchInterface(expr.MetaKeyIIFNAME, interfacePrefix+closedMark, expr.CmpOpEq)

	forward := chain(c, t, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	rule(c, forward, fromClosed, drop)
	rule(c, forward, from, matchProtocol(unix.NFPROTO_IPV6), drop)
	rule(c, forward, from, matchProtocol(unix.NFPROTO_IPV4), sourceNotRoutedBack(), drop)
	rule(c, forward, from, matchProtocol(unix.NFPROTO_IPV4), destinationIn(closed), drop)
	rule(c, forward, to, established(), accept)
	rule(c, forward, to, drop)

	input := chain(c, t, "input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	rule(c, input, from, established(), accept)
	rule(c, input, from, drop)

	output := chain(c, t, "output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)
	rule(c, output, to, notRoot(), drop)

	postrouting := chain(c, t, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	rule(c, postrouting, matchProtocol(unix.NFPROTO_IPV4), sourceIn(pool),
		matchInterface(expr.MetaKeyOIFNAME, interfacePrefix, expr.CmpOpNeq), []expr.Any{&expr.Masq{}})
	return c.Flush()
}

// removeRules removes the table; one that is not there is no error.
func removeRules(table string) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: table, Family: nftables.TableFamilyINet}
	c.AddTable(t)
	c.DelTable(t)
	return c.Flush()
}

func chain(c *nftables.Conn, t *nftables.Table, name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
	return c.AddChain(&nftables.Chain{Table: t, Name: name, Type: kind, Hooknum: hook, Priority: priority})
}

func rule(c *nftables.Conn, in *nftables.Chain, parts ...[]expr.Any) {
	var exprs []expr.Any
	for _, part := range parts {
		exprs = append(exprs, part...)
	}
	c.AddRule(&nftables.Rule{Table: in.Table, Chain: in, Exprs: exprs})
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// matchInterface compares the beginning of an interface's name.
func matchInterface(key expr.MetaKey, prefix string, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte(prefix)},
	}
}

func matchProtocol(protocol byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
	}
}

// notRoot is true for packets of a process that does not run as root.
func notRoot() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// sourceNotRoutedBack is true when an answer to the source would not leave by
// the interface that the packet came in by.
func sourceNotRoutedBack() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 0, 0, 0}},
	}
}

// The offsets of the addresses in an IPv4 header: RFC 791, section 3.1.
const (
	sourceOffset      = 12
	destinationOffset = 16
	addressLength     = 4
)

func loadAddress(offset uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: addressLength}
}

func destinationIn(set *nftables.Set) []expr.Any {
	return []expr.Any{
		loadAddress(destinationOffset),
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
	}
}

func sourceIn(pool netip.Prefix) []expr.Any {
	mask := make([]byte, addressLength)
	for bit := range pool.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return []expr.Any{
		loadAddress(sourceOffset),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: addressLength, Mask: mask, Xor: make([]byte, addressLength)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: pool.Addr().AsSlice()},
	}
}

func established() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
			Xor:  make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// rangeElements turns networks into the intervals of a set: the kernel refuses
// intervals that overlap, so networks within others are left out.
func rangeElements(networks []string) ([]nftables.SetElement, error) {
	var prefixes []netip.Prefix
	for _, network := range networks {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix)
	}
	var elements []nftables.SetElement
	for i, prefix := range prefixes {
		covered := false
		for j, other := range prefixes {
			covered = covered || (i != j && other.Overlaps(prefix) && other.Bits() <= prefix.Bits() && (other.Bits() < prefix.Bits() || j < i))
		}
		if covered {
			continue
		}
		elements = append(elements, nftables.SetElement{Key: prefix.Addr().AsSlice()})
		if end, ok := after(prefix); ok {
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return elements, nil
}

// after returns the first address behind a network, if there is one.
func after(prefix netip.Prefix) (netip.Addr, bool) {
	last := prefix.Addr().As4()
	for bit := prefix.Bits(); bit < 32; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	next := netip.AddrFrom4(last).Next()
	return next, next.IsValid()
}

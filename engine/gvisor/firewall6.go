package gvisor

import (
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// uplinkChain begins the name of the chain that guards an uplink.
const uplinkChain = "uplink-"

// closeUnknownIPv6 lets nothing of IPv6 in but what the rules after it can judge:
// with an address that leads back, without a header that hides what follows, and
// no word about neighbours, routers and groups. Fragments are whole again here.
func closeUnknownIPv6(c *nftables.Conn, t *nftables.Table, from []expr.Any, open bool) {
	first := chain(c, t, "first", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	if !open {
		rule(c, first, from, ipv6.is(), verdict(expr.VerdictDrop))
		return
	}
	known := c.AddChain(&nftables.Chain{Name: "known6", Table: t})
	rule(c, first, from, ipv6.is(), jump(known.Name))
	rule(c, known, sourceNotRoutedBack(), verdict(expr.VerdictDrop))
	for _, next := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		rule(c, known, nextHeader(next), verdict(expr.VerdictAccept))
	}
	for _, kind := range []byte{1, 2, 3, 4, 128} { // errors, and the question of ping: RFC 4443
		rule(c, known, nextHeader(unix.IPPROTO_ICMPV6), icmpType(kind), verdict(expr.VerdictAccept))
	}
	rule(c, known, verdict(expr.VerdictDrop))
}

// nextHeader compares what follows the header of IPv6 at once.
func nextHeader(protocol byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
	}
}

func icmpType(kind byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{kind}},
	}
}

// guardUplink keeps the machine from forwarding for others what comes in by an
// uplink, now that it forwards for sandboxes.
func guardUplink(c *nftables.Conn, t *nftables.Table, uplink, interfacePrefix string) {
	guard := chain(c, t, uplinkChain+uplink, nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	rule(c, guard, matchInterface(expr.MetaKeyIIFNAME, uplink+"\x00", expr.CmpOpEq), ipv6.is(),
		matchInterface(expr.MetaKeyOIFNAME, interfacePrefix, expr.CmpOpNeq), stateIs(^(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)), verdict(expr.VerdictDrop))
}

// guardedUplinks lists the uplinks that a table of ours guards, by table.
func guardedUplinks() (map[string][]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	guarded := map[string][]string{}
	for _, one := range chains {
		if uplink, ok := strings.CutPrefix(one.Name, uplinkChain); ok && one.Hooknum != nil {
			guarded[one.Table.Name] = append(guarded[one.Table.Name], uplink)
		}
	}
	return guarded, nil
}

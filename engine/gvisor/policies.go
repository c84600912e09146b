package gvisor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"cube"
	"cube/network/gate"
)

// held is what the table has of one sandbox.
type held struct {
	chain          string // "" for one whose verdict is in the map
	gated, proxied bool
}

// A sandbox's own rules are an element of the map of policies, by its address: to
// accept, to refuse, or to go to a chain of its own:
//
//	chain LINK-TURN { ip daddr { ALLOWED } accept; ip daddr { DENIED } jump refused; accept }

// hold puts a sandbox's rules in place of those that it had, in one transaction,
// here and in the gate.
func (n *network) hold(id cube.SandboxID, link int, internet bool, policy cube.NetworkPolicy) error {
	guest := n.describe(link).Guest.Addr()
	allowed, named, err := splitAllowed(policy.AllowOut)
	if err != nil {
		return err
	}
	denied, err := parsePrefixes(policy.DenyOut)
	if err != nil {
		return err
	}
	next := held{
		gated:   internet && (named || len(policy.Rules) > 0),
		proxied: internet && policy.EgressProxy != nil,
	}
	if n.gate == nil && (next.gated || next.proxied) {
		return cube.Errorf(cube.Unsupported, "this server cannot tell connections apart by name")
	}
	n.rules.Lock()
	defer n.rules.Unlock()
	done := false
	if n.gate != nil {
		end, err := n.gate.Begin(guest, gate.Sandbox{ID: id, Internet: internet, Policy: policy, Authority: policy.Authority})
		if err != nil {
			return cube.WrapError(cube.Invalid, err, "the network policy cannot be used: %s", err)
		}
		defer func() { end(done) }()
	}
	c, err := n.open()
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: n.table, Family: nftables.TableFamilyINet}
	old, had := n.held[link]
	to := &expr.Verdict{Kind: expr.VerdictAccept}
	switch {
	case !internet:
		to = &expr.Verdict{Kind: expr.VerdictJump, Chain: refusedChain}
	case len(allowed) > 0 || len(denied) > 0:
		n.turn++
		next.chain = fmt.Sprintf("%x-%x", link, n.turn)
		if err := addPolicyChain(c, t, next.chain, allowed, denied); err != nil {
			n.hangUp()
			return err
		}
		to = &expr.Verdict{Kind: expr.VerdictJump, Chain: next.chain}
	}
	elements := []nftables.SetElement{{Key: guest.AsSlice()}}
	policies := &nftables.Set{Table: t, Name: policiesMap, KeyType: nftables.TypeIPAddr, IsMap: true, DataType: nftables.TypeVerdict}
	if had {
		err = c.SetDeleteElements(policies, elements)
	}
	err = errors.Join(err, c.SetAddElements(policies, []nftables.SetElement{{Key: guest.AsSlice(), VerdictData: to}}))
	err = errors.Join(err, changeMember(c, t, gatedSet, elements, old.gated, next.gated))
	err = errors.Join(err, changeMember(c, t, proxiedSet, elements, old.proxied, next.proxied))
	if err != nil {
		n.hangUp()
		return err
	}
	removePolicyChain(c, t, old.chain)
	if err := n.commit(c); err != nil {
		return fmt.Errorf("installing the sandbox's firewall rules: %w", err)
	}
	n.held[link] = next
	done = true
	return nil
}

// forget removes a sandbox's rules: its address is closed.
func (n *network) forget(link int) error {
	guest := n.describe(link).Guest.Addr()
	n.rules.Lock()
	defer n.rules.Unlock()
	if n.gate != nil {
		n.gate.Remove(guest)
	}
	old, had := n.held[link]
	if !had {
		return nil
	}
	c, err := n.open()
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: n.table, Family: nftables.TableFamilyINet}
	elements := []nftables.SetElement{{Key: guest.AsSlice()}}
	policies := &nftables.Set{Table: t, Name: policiesMap, KeyType: nftables.TypeIPAddr, IsMap: true, DataType: nftables.TypeVerdict}
	err = errors.Join(
		c.SetDeleteElements(policies, elements),
		changeMember(c, t, gatedSet, elements, old.gated, false),
		changeMember(c, t, proxiedSet, elements, old.proxied, false),
	)
	if err != nil {
		n.hangUp()
		return err
	}
	removePolicyChain(c, t, old.chain)
	// They are gone if another server has made the table anew.
	if err := n.commit(c); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing the sandbox's firewall rules: %w", err)
	}
	delete(n.held, link)
	return nil
}

// open returns the one connection to the kernel's rules, which is kept: when one
// is closed, the kernel waits until what was removed by anybody is gone. n.rules is
// held, here and in commit.
func (n *network) open() (*nftables.Conn, error) {
	if n.conn != nil {
		return n.conn, nil
	}
	var err error
	n.conn, err = nftables.New(nftables.AsLasting())
	return n.conn, err
}

// commit does all that was asked for, or nothing. After an error there may be
// answers that nobody has read, so the next one gets another connection.
func (n *network) commit(c *nftables.Conn) error {
	err := c.Flush()
	if err != nil {
		n.hangUp()
	}
	return err
}

// hangUp closes the connection, if there is one.
func (n *network) hangUp() {
	if n.conn != nil {
		_ = n.conn.CloseLasting()
		n.conn = nil
	}
}

// close ends what the network holds of the server's own.
func (n *network) close() {
	n.awaitEnded()
	n.rules.Lock()
	defer n.rules.Unlock()
	n.hangUp()
	n.tracked.close()
}

func addPolicyChain(c *nftables.Conn, t *nftables.Table, name string, allowed, denied []string) error {
	own := c.AddChain(&nftables.Chain{Name: name, Table: t})
	for _, part := range []struct {
		networks []string
		verdict  []expr.Any
	}{{allowed, verdict(expr.VerdictAccept)}, {denied, jump(refusedChain)}} {
		if len(part.networks) == 0 {
			continue
		}
		elements, err := rangeElements(part.networks)
		if err != nil {
			return err
		}
		set := &nftables.Set{Table: t, Anonymous: true, Constant: true, KeyType: nftables.TypeIPAddr, Interval: true}
		if err := c.AddSet(set, elements); err != nil {
			return err
		}
		rule(c, own, addressIn(destinationOffset, set), part.verdict)
	}
	rule(c, own, verdict(expr.VerdictAccept))
	return nil
}

func removePolicyChain(c *nftables.Conn, t *nftables.Table, name string) {
	if name == "" {
		return
	}
	old := &nftables.Chain{Name: name, Table: t}
	c.FlushChain(old)
	c.DelChain(old)
}

// changeMember puts an address into a set, or takes it out.
func changeMember(c *nftables.Conn, t *nftables.Table, name string, elements []nftables.SetElement, was, is bool) error {
	set := &nftables.Set{Table: t, Name: name, KeyType: nftables.TypeIPAddr}
	switch {
	case was && !is:
		return c.SetDeleteElements(set, elements)
	case !was && is:
		return c.SetAddElements(set, elements)
	}
	return nil
}

// splitAllowed tells addresses from names, which are the gate's.
func splitAllowed(entries []string) (networks []string, named bool, err error) {
	var numbers []string
	for _, entry := range entries {
		first, _, _ := strings.Cut(entry, "/")
		if _, err := netip.ParseAddr(first); err != nil {
			named = true
			continue
		}
		numbers = append(numbers, entry)
	}
	networks, err = parsePrefixes(numbers)
	return networks, named, err
}

// parsePrefixes reads addresses and ranges. No packet of IPv6 comes out, so those
// of it need no rule.
func parsePrefixes(entries []string) ([]string, error) {
	var networks []string
	for _, entry := range entries {
		prefix, err := netip.ParsePrefix(entry)
		if addr, failed := netip.ParseAddr(entry); failed == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return nil, cube.Errorf(cube.Invalid, "%q is no address and no range of addresses", entry)
		}
		if prefix.Addr().Is4() {
			networks = append(networks, prefix.Masked().String())
		}
	}
	slices.Sort(networks)
	return slices.Compact(networks), nil
}

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
	chains         []string
	gated, proxied bool
}

// A sandbox's own rules are an element of the map of policies, by its address: to
// accept, to refuse, or to go to a chain of its own:
//
//	chain LINK-TURN { ip daddr { ALLOWED } accept; ip daddr { DENIED } jump refused; accept }
//
// and another for IPv6.

// hold puts a sandbox's rules in place of those that it had, in one transaction,
// here and in the gate.
func (n *network) hold(id cube.SandboxID, link int, internet bool, policy cube.NetworkPolicy) error {
	address := n.describe(link)
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
		end, err := n.gate.Begin(address.Guest.Addr(), gate.Sandbox{ID: id, IPv6: address.Guest6.Addr(), Internet: internet, Policy: policy, Authority: policy.Authority})
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
	n.turn++
	for _, f := range n.families() {
		to := &expr.Verdict{Kind: expr.VerdictAccept}
		open, shut := f.networks(allowed, false), f.networks(denied, true)
		switch {
		case !internet:
			to = &expr.Verdict{Kind: expr.VerdictJump, Chain: refusedChain}
		case len(open) > 0 || len(shut) > 0:
			own := fmt.Sprintf("%x-%x%s", link, n.turn, strings.Repeat("-", len(f.suffix))+f.suffix)
			if err := addPolicyChain(c, t, f, own, open, shut); err != nil {
				n.hangUp()
				return err
			}
			next.chains = append(next.chains, own)
			to = &expr.Verdict{Kind: expr.VerdictJump, Chain: own}
		}
		elements := []nftables.SetElement{{Key: f.guest(address).AsSlice()}}
		if had {
			err = errors.Join(err, c.SetDeleteElements(f.policies(t), elements))
		}
		err = errors.Join(err,
			c.SetAddElements(f.policies(t), []nftables.SetElement{{Key: f.guest(address).AsSlice(), VerdictData: to}}),
			changeMember(c, f.set(t, gatedSet), elements, old.gated, next.gated),
			changeMember(c, f.set(t, proxiedSet), elements, old.proxied, next.proxied),
		)
	}
	if err != nil {
		n.hangUp()
		return err
	}
	removePolicyChains(c, t, old.chains)
	if err := n.commit(c); err != nil {
		return fmt.Errorf("installing the sandbox's firewall rules: %w", err)
	}
	n.held[link] = next
	done = true
	return nil
}

// forget removes a sandbox's rules: its address is closed.
func (n *network) forget(link int) error {
	address := n.describe(link)
	n.rules.Lock()
	defer n.rules.Unlock()
	if n.gate != nil {
		n.gate.Remove(address.Guest.Addr())
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
	for _, f := range n.families() {
		elements := []nftables.SetElement{{Key: f.guest(address).AsSlice()}}
		err = errors.Join(err,
			c.SetDeleteElements(f.policies(t), elements),
			changeMember(c, f.set(t, gatedSet), elements, old.gated, false),
			changeMember(c, f.set(t, proxiedSet), elements, old.proxied, false),
		)
	}
	if err != nil {
		n.hangUp()
		return err
	}
	removePolicyChains(c, t, old.chains)
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
	n.refusals.close()
	n.rules.Lock()
	defer n.rules.Unlock()
	n.hangUp()
	n.tracked.close()
}

func addPolicyChain(c *nftables.Conn, t *nftables.Table, f family, name string, allowed, denied []string) error {
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
		set := &nftables.Set{Table: t, Anonymous: true, Constant: true, KeyType: f.key, Interval: true}
		if err := c.AddSet(set, elements); err != nil {
			return err
		}
		rule(c, own, f.addressIn(f.destination, set), part.verdict)
	}
	rule(c, own, verdict(expr.VerdictAccept))
	return nil
}

func removePolicyChains(c *nftables.Conn, t *nftables.Table, names []string) {
	for _, name := range names {
		old := &nftables.Chain{Name: name, Table: t}
		c.FlushChain(old)
		c.DelChain(old)
	}
}

// changeMember puts an address into a set, or takes it out.
func changeMember(c *nftables.Conn, set *nftables.Set, elements []nftables.SetElement, was, is bool) error {
	switch {
	case was && !is:
		return c.SetDeleteElements(set, elements)
	case !was && is:
		return c.SetAddElements(set, elements)
	}
	return nil
}

// splitAllowed tells addresses from names, which are the gate's.
func splitAllowed(entries []string) (networks []netip.Prefix, named bool, err error) {
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

// parsePrefixes reads addresses and ranges.
func parsePrefixes(entries []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, entry := range entries {
		prefix, err := netip.ParsePrefix(entry)
		if addr, failed := netip.ParseAddr(entry); failed == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return nil, cube.Errorf(cube.Invalid, "%q is no address and no range of addresses", entry)
		}
		networks = append(networks, prefix.Masked())
	}
	slices.SortFunc(networks, netip.Prefix.Compare)
	return slices.Compact(networks), nil
}

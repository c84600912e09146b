package gvisor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkBits6 is the length of the prefix that one sandbox gets of IPv6: four
// addresses, numbered like those of IPv4.
const linkBits6 = 128 - (32 - linkBits)

// settings6 are the kernel's, by interface.
const settings6 = "/proc/sys/net/ipv6/conf/"

var uniqueLocal = netip.MustParsePrefix("fc00::/7")

// checkPool6 refuses a network that is none for sandboxes. It must be of the
// addresses that are closed to all of them, and with which a program prefers IPv4
// where a name has both.
func checkPool6(pool netip.Prefix, links int) error {
	if !pool.Addr().Is6() || pool != pool.Masked() || !uniqueLocal.Contains(pool.Addr()) || pool.Bits() < uniqueLocal.Bits() ||
		pool.Bits() > linkBits6 || linkBits6-pool.Bits() < 63 && 1<<(linkBits6-pool.Bits()) < links {
		return fmt.Errorf("the sandboxes' IPv6 network %s must be of fc00::/7 and have room for as many sandboxes as --sandbox-network, such as fd63:7562:6500::/64", pool)
	}
	return nil
}

// openIPv6 finds out how this machine is to forward IPv6, and returns what makes
// it do so once the rules are in force.
func (n *network) openIPv6() (forward func() error, err error) {
	before, err := guardedUplinks()
	if err != nil {
		return nil, fmt.Errorf("listing the firewall rules with nftables (that needs root and a kernel with nf_tables): %w", err)
	}
	if n.pool6.IsValid() {
		if err := errors.Join(checkPool6(n.pool6, n.links()), n.refuseOverlap(netlink.FAMILY_V6, n.pool6, "--sandbox-network6")); err != nil {
			return nil, err
		}
		if n.gate != nil && n.gate.Port6() == 0 {
			return nil, errors.New("the gate has no port for IPv6")
		}
		found, err := findForwarding(false)
		if err != nil {
			return nil, fmt.Errorf("sandboxes cannot have IPv6 (--sandbox-ipv6=off goes without): %w", err)
		}
		n.guarded, n.forward6 = found.toGuard(before), !found.all
	}
	return func() error {
		for _, uplink := range n.guarded {
			if err := setForwarding(uplink, true); err != nil {
				return err
			}
		}
		// Those of the last server that had IPv6.
		gone := slices.DeleteFunc(before[n.table], func(uplink string) bool { return slices.Contains(n.guarded, uplink) })
		return stopForwarding(n.table, gone)
	}, nil
}

// forwarding is how this machine comes to forward IPv6. net.ipv6.conf.all.forwarding
// is its operator's: it makes a machine a router, which no longer listens to its
// own router's advertisements and so may lose its address. Linux 6.17 and later
// forward by interface too, and leave that alone.
type forwarding struct {
	all     bool     // it does anyway
	uplinks []string // the interfaces that lead outside
}

// IPv6Ready tells why this machine cannot give IPv6 to sandboxes, nil if it can.
// Without a default route it can only if that is not asked for.
func IPv6Ready(needRoute bool) error {
	_, err := findForwarding(needRoute)
	return err
}

func findForwarding(needRoute bool) (forwarding, error) {
	var f forwarding
	all, err := os.ReadFile(settings6 + "all/forwarding")
	if err != nil {
		return f, fmt.Errorf("this machine's kernel has no IPv6: %w", err)
	}
	f.all = strings.TrimSpace(string(all)) != "0"
	if f.uplinks, err = uplinks6(needRoute); err != nil {
		return f, err
	}
	if f.all {
		return f, nil
	}
	for _, uplink := range f.uplinks {
		err := unix.Access(settings6+uplink+"/force_forwarding", unix.W_OK)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return f, fmt.Errorf("this machine does not forward IPv6, and cannot be made to from here (net.ipv6.conf.%s.force_forwarding): %w", uplink, err)
		}
		if err != nil {
			return f, errors.New("this machine does not forward IPv6: set net.ipv6.conf.all.forwarding=1, and accept_ra=2 for an interface that has its address from a router's advertisements (Linux 6.17 and later need neither)")
		}
	}
	return f, nil
}

// uplinks6 lists the interfaces through which this machine reaches the internet by
// IPv6: those of default routes, or if there need be none those with an address.
func uplinks6(needRoute bool) ([]string, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V6)
	if err != nil {
		return nil, fmt.Errorf("listing routes of IPv6: %w", err)
	}
	byRoute := map[int]bool{}
	for _, route := range routes {
		if route.Type != unix.RTN_UNICAST || !isDefault(route.Dst) {
			continue
		}
		byRoute[route.LinkIndex] = true
		for _, hop := range route.MultiPath {
			byRoute[hop.LinkIndex] = true
		}
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var routed, addressed []string
	for _, i := range interfaces {
		switch {
		case i.Flags&net.FlagLoopback != 0 || !hasGlobal(i):
		case byRoute[i.Index]:
			routed = append(routed, i.Name)
		case !strings.HasPrefix(i.Name, "cube"): // sandboxes' links
			addressed = append(addressed, i.Name)
		}
	}
	switch {
	case len(routed) > 0:
		return routed, nil
	case needRoute || len(addressed) == 0:
		return nil, errors.New("this machine has no default route of IPv6")
	}
	return addressed, nil
}

func isDefault(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0
}

// hasGlobal tells whether an interface has an address of IPv6 that is good beyond
// its link.
func hasGlobal(i net.Interface) bool {
	addresses, err := i.Addrs()
	return err == nil && slices.ContainsFunc(addresses, func(a net.Addr) bool {
		own, ok := a.(*net.IPNet)
		return ok && own.IP.To4() == nil && own.IP.IsGlobalUnicast()
	})
}

// toGuard are the uplinks that forward for sandboxes alone: all but those for which
// the operator has said otherwise. guarded are those of before, by table.
func (f forwarding) toGuard(guarded map[string][]string) (uplinks []string) {
	if f.all {
		return nil
	}
	for _, uplink := range f.uplinks {
		ours := false
		for _, of := range guarded {
			ours = ours || slices.Contains(of, uplink)
		}
		if now, err := os.ReadFile(settings6 + uplink + "/force_forwarding"); ours || err != nil || strings.TrimSpace(string(now)) == "0" {
			uplinks = append(uplinks, uplink)
		}
	}
	return uplinks
}

// setForwarding makes an uplink forward, or no more.
func setForwarding(uplink string, on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	err := os.WriteFile(settings6+uplink+"/force_forwarding", []byte(value), 0o644)
	if err != nil && (on || !errors.Is(err, os.ErrNotExist)) {
		return fmt.Errorf("setting net.ipv6.conf.%s.force_forwarding: %w", uplink, err)
	}
	return nil
}

// stopForwarding ends it on those of the uplinks that no other server's table
// guards.
func stopForwarding(table string, uplinks []string) error {
	if len(uplinks) == 0 {
		return nil
	}
	guarded, err := guardedUplinks()
	if err != nil {
		return err
	}
	delete(guarded, table)
	for _, uplink := range uplinks {
		others := false
		for _, of := range guarded {
			others = others || slices.Contains(of, uplink)
		}
		if !others {
			err = errors.Join(err, setForwarding(uplink, false))
		}
	}
	return err
}

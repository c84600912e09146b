package gate

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// closedRanges are what no sandbox may reach, by IANA's registries of
// special-purpose addresses, without the documentation networks, which lead
// nowhere.
var closedRanges = append(prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
), closedRanges6...)

// Of IPv6 also what has an IPv4 address in it, by which it could lead to a closed
// one: tunnels that nobody needs any more, whole.
var closedRanges6 = prefixes(
	"::/96",          // unspecified, loopback, compatible with IPv4
	"::ffff:0:0/96",  // mapped
	"64:ff9b:1::/48", // local translation: RFC 8215
	"100::/64",       // discard
	"2001::/23",      // protocol assignments, Teredo among them
	"2002::/16",      // 6to4
	"5f00::/16",      // segment routing: RFC 9602
	"fc00::/7",       // unique local
	"fe80::/10",      // link-local
	"fec0::/10",      // site-local, once
	"ff00::/8",       // multicast
)

// translated is NAT64's range: its addresses lead to the IPv4 address at their end.
var translated = netip.MustParsePrefix("64:ff9b::/96")

// ClosedRanges6 are the addresses of IPv6 for which Closed holds.
func ClosedRanges6() []netip.Prefix {
	all := slices.Clone(closedRanges6)
	for _, r := range closedRanges {
		if r.Addr().Is4() {
			all = append(all, Translated(r))
		}
	}
	return all
}

// Translated is where NAT64, if the operator's network has it, puts a range of
// IPv4: who may not reach that may not reach it this way.
func Translated(four netip.Prefix) netip.Prefix {
	within, inner := translated.Addr().As16(), four.Addr().As4()
	copy(within[12:], inner[:])
	return netip.PrefixFrom(netip.AddrFrom16(within), translated.Bits()+four.Bits())
}

func prefixes(text ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, one := range text {
		all = append(all, netip.MustParsePrefix(one))
	}
	return all
}

// Closed tells whether an address is closed to every sandbox, whatever its policy
// says: private, link-local, or no place on the internet.
func Closed(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || inRanges(addr, closedRanges) {
		return true
	}
	if translated.Contains(addr) {
		bytes := addr.As16()
		return Closed(netip.AddrFrom4([4]byte(bytes[12:])))
	}
	return false
}

func inRanges(addr netip.Addr, ranges []netip.Prefix) bool {
	for _, r := range ranges {
		if r.Contains(addr) {
			return true
		}
	}
	return false
}

// closed adds what the operator has closed.
func (g *Gate) closed(addr netip.Addr) bool {
	return Closed(addr) || inRanges(addr.Unmap(), g.config.Closed)
}

// isLocal tells whether this machine would keep what is sent to an address:
// connecting to it would reach its own services. What it cannot route is as good
// as local.
func isLocal(addr netip.Addr) bool {
	routes, err := netlink.RouteGet(addr.AsSlice())
	if err != nil {
		return true
	}
	for _, route := range routes {
		if route.Type != unix.RTN_UNICAST {
			return true
		}
	}
	return false
}

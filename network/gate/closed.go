package gate

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// closedRanges are what no sandbox may reach, by IANA's registries of
// special-purpose addresses, without the documentation networks, which lead
// nowhere.
var closedRanges = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",

	"::/128", "::1/128",
	"64:ff9b:1::/48", // local translation: RFC 8215
	"100::/64",       // discard
	"2001::/23",      // protocol assignments, Teredo among them
	"fc00::/7",       // unique local
	"fe80::/10",      // link-local
	"fec0::/10",      // site-local, once
	"ff00::/8",       // multicast
)

// The ranges whose addresses have an IPv4 address in them, which is where they
// lead: at which byte it stands.
var embedding = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64: RFC 6052
	{netip.MustParsePrefix("::/96"), 12},        // compatible: RFC 4291, 2.5.5.1
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4: RFC 3056
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
	for _, e := range embedding {
		if e.prefix.Contains(addr) {
			bytes := addr.As16()
			return Closed(netip.AddrFrom4([4]byte(bytes[e.at : e.at+4])))
		}
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

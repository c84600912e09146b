package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"cube/engine/gvisor/launch"
)

// quietIPv6 sees that neither end of a pair that is still down makes addresses
// up, that the host's believes nothing that is said of routers, and that the host
// forwards from it.
func quietIPv6(guest, host *netlink.Handle, n launch.Network) error {
	const withoutAddresses = 1 // IN6_ADDR_GEN_MODE_NONE: linux/if_link.h
	for _, end := range []struct {
		handle *netlink.Handle
		name   string
	}{{guest, guestInterface}, {host, n.HostInterface}} {
		link, err := end.handle.LinkByName(end.name)
		if err != nil {
			return fmt.Errorf("finding %s: %w", end.name, err)
		}
		if err := end.handle.LinkSetIP6AddrGenMode(link, withoutAddresses); err != nil {
			return fmt.Errorf("keeping %s from making itself an address: %w", end.name, err)
		}
	}
	return setHost(n)
}

// setHost makes the settings of the host's end, which are files of its namespace.
// The thread comes back from there, or this process ends: it may be the first one,
// whose namespace is the sandbox's.
func setHost(n launch.Network) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return fmt.Errorf("finding the sandbox's namespace: %w", err)
	}
	defer own.Close()
	if err := netns.Set(netns.NsHandle(launch.HostNSFD)); err != nil {
		return fmt.Errorf("entering the host's namespace: %w", err)
	}
	defer func() {
		if netns.Set(own) != nil {
			os.Exit(1)
		}
	}()
	settings := "/proc/sys/net/ipv6/conf/" + n.HostInterface + "/"
	for _, name := range []string{"accept_ra", "accept_redirects"} {
		// The firewall lets neither in; this is for when it is gone.
		_ = os.WriteFile(settings+name, []byte("0"), 0o644)
	}
	if !n.Forward6 {
		return nil
	}
	if err := os.WriteFile(settings+"force_forwarding", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("letting the machine forward IPv6 from %s: %w", n.HostInterface, err)
	}
	return nil
}

// setUpIPv6 gives a pair that is up its addresses, and the guest its way out. Both
// ends are told the other's hardware address for good: nobody asks for it, and
// what a sandbox says of neighbours is neither needed nor believed.
func setUpIPv6(guest, host *netlink.Handle, n launch.Network) error {
	inside, err := guest.LinkByName(guestInterface)
	if err != nil {
		return fmt.Errorf("finding %s: %w", guestInterface, err)
	}
	outside, err := host.LinkByName(n.HostInterface)
	if err != nil {
		return fmt.Errorf("finding %s: %w", n.HostInterface, err)
	}
	for _, end := range []struct {
		handle    *netlink.Handle
		link      netlink.Link
		own       netip.Prefix
		other     netip.Addr
		otherLink netlink.Link
	}{
		{guest, inside, n.Guest6, n.Host6.Addr(), outside},
		{host, outside, n.Host6, n.Guest6.Addr(), inside},
	} {
		name := end.link.Attrs().Name
		err := end.handle.AddrAdd(end.link, &netlink.Addr{
			IPNet: &net.IPNet{IP: end.own.Addr().AsSlice(), Mask: net.CIDRMask(end.own.Bits(), end.own.Addr().BitLen())},
			Flags: unix.IFA_F_NODAD, // nobody else is there who could have it
		})
		if err != nil {
			return fmt.Errorf("adding an IPv6 address to %s: %w", name, err)
		}
		err = end.handle.NeighSet(&netlink.Neigh{
			LinkIndex: end.link.Attrs().Index, Family: netlink.FAMILY_V6, State: netlink.NUD_PERMANENT,
			IP: end.other.AsSlice(), HardwareAddr: end.otherLink.Attrs().HardwareAddr,
		})
		if err != nil {
			return fmt.Errorf("adding a neighbour to %s: %w", name, err)
		}
	}
	if err := guest.RouteAdd(&netlink.Route{LinkIndex: inside.Attrs().Index, Gw: n.Host6.Addr().AsSlice()}); err != nil {
		return fmt.Errorf("adding the default route of IPv6: %w", err)
	}
	return nil
}

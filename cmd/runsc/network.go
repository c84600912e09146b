package main

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"cube/engine/gvisor/launch"
)

// guestInterface is what the sandbox calls its end of the pair.
const guestInterface = "eth0"

// setUpNetwork furnishes this process's network namespace: loopback, and a veth
// pair to the server's namespace. gVisor takes addresses and routes over from
// here.
func setUpNetwork(n launch.Network) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("setting lo up: %w", err)
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: guestInterface},
		PeerName:      n.HostInterface,
		PeerNamespace: netlink.NsFd(launch.HostNSFD),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("making the pair %s: %w", n.HostInterface, err)
	}
	host, err := netlink.NewHandleAt(netns.NsHandle(launch.HostNSFD), netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("entering the host's namespace: %w", err)
	}
	defer host.Close()
	guest := &netlink.Handle{}
	if n.Guest6.IsValid() {
		if err := quietIPv6(guest, host, n); err != nil {
			return err
		}
	}
	if err := setUpLink(guest, guestInterface, n.Guest); err != nil {
		return err
	}
	if err := setUpLink(host, n.HostInterface, n.Host); err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{Gw: n.Host.Addr().AsSlice()}); err != nil {
		return fmt.Errorf("adding the default route: %w", err)
	}
	if n.Guest6.IsValid() {
		return setUpIPv6(guest, host, n)
	}
	return nil
}

// setUpLink gives a link its address and sets it up.
func setUpLink(h *netlink.Handle, name string, address netip.Prefix) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding %s: %w", name, err)
	}
	ip := net.IP(address.Addr().AsSlice())
	mask := net.CIDRMask(address.Bits(), address.Addr().BitLen())
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: mask}}); err != nil {
		return fmt.Errorf("adding an address to %s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up: %w", name, err)
	}
	return nil
}

package gvisor

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"cube"
	"cube/internal/internet"
	"cube/network/gate"
)

// guest is a link with a network namespace behind it in place of a sandbox: what
// the kernel does about its packets, without gVisor.
type guest struct {
	*internet.Space
	network *network
	link    int
	host    netip.Addr
}

// newGuest opens a network of its own with one link, and a policy in force there.
func newGuest(t *testing.T, g *gate.Gate, limits LinkLimits, internetAccess bool, policy cube.NetworkPolicy) *guest {
	t.Helper()
	const table = "cubeguest"
	n, err := openNetwork(netip.MustParsePrefix("10.214.0.0/24"), netip.Prefix{}, table, g, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.close()
		if err := removeRules(table); err != nil {
			t.Error(err)
		}
	})
	if g != nil {
		if n.refusals, err = listenForRefusals(table, g); err != nil {
			t.Fatal(err)
		}
	}
	link, err := n.take()
	if err == nil {
		err = n.hold("i00000000000000000001", link, internetAccess, policy)
	}
	if err != nil {
		t.Fatal(err)
	}
	space, err := internet.NewSpace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = space.Close() })
	is := n.describe(link)
	here, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	setUp := func(name string, address netip.Prefix) error {
		found, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(address.String())
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(found, addr); err != nil {
			return err
		}
		return netlink.LinkSetUp(found)
	}
	err = space.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: is.HostInterface, PeerNamespace: netlink.NsFd(here)})
	})
	if err == nil {
		err = setUp(is.HostInterface, is.Host)
	}
	if err == nil {
		err = space.Do(func() error {
			if err := setUp("eth0", is.Guest); err != nil {
				return err
			}
			return netlink.RouteAdd(&netlink.Route{Gw: net.IP(is.Host.Addr().AsSlice())})
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = removeLink(is.HostInterface) })
	return &guest{space, n, link, is.Host.Addr()}
}

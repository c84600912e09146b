package testhost

import (
	"net"
	"os"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"cube/internal/internet"
)

// IPv6 gives the tests' machine a default route of IPv6 for as long as a test goes:
// only those that ask have it. Where the kernel has none it skips the test.
func IPv6(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		t.Skip("this kernel has no IPv6:", err)
	}
	if err := connect6(); err != nil {
		t.Fatal(err)
	}
	route := &netlink.Route{Gw: net.ParseIP(internet.Router6Addr)}
	if err := netlink.RouteReplace(route); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.RouteDel(route) }) // or it is gone already
	if _, err := os.Stat("/proc/sys/net/ipv6/conf/lo/force_forwarding"); err != nil {
		t.Log("the machine is made to forward all, for this kernel cannot by interface:", err)
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var connect6 = sync.OnceValue(func() error {
	here, err := internet.Here()
	if err != nil {
		return err
	}
	defer here.Close()
	return world.Connect6(here)
})

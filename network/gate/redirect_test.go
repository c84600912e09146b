package gate

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"cube"
)

// The kernel's part: a connection that the firewall redirects arrives with where
// it wanted to go, and one that goes to the gate by itself does not pass. It runs
// in a network namespace of its own.
func TestRedirected(t *testing.T) {
	const within = "CUBE_GATE_REDIRECTED"
	if os.Getenv(within) == "" {
		if os.Getuid() != 0 {
			t.Skip("needs root")
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestRedirected$", "-test.v")
		cmd.Env = append(os.Environ(), within+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const guest, guest6, good6 = "203.0.113.9", "2001:db8:9::9", "2001:db8::1"
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	addresses := []string{good + "/32", guest + "/32"}
	_, err = os.Stat("/proc/net/if_inet6")
	six := err == nil
	if six {
		addresses = append(addresses, good6+"/128", guest6+"/128")
	} else {
		t.Log("without IPv6, for this kernel has none")
	}
	for _, address := range addresses {
		addr, _ := netlink.ParseAddr(address)
		if err := netlink.AddrAdd(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config) {
		c.original, c.Listen = originalDestination, netip.IPv4Unspecified()
		if six {
			c.Listen6 = netip.IPv6Unspecified()
		}
	})
	w.serve(good+":443", echo(good))
	w.set(guest, cube.NetworkPolicy{})
	redirect(t, nftables.TableFamilyIPv4, 443, w.gate.Port())

	dial := func(to string) net.Conn {
		from := guest
		if to[0] == '[' {
			from = guest6
		}
		conn := connect(t, from, to)
		_, _ = conn.Write([]byte("\x00"))
		return conn
	}
	if six {
		w.serve("["+good6+"]:443", echo(good6))
		redirect(t, nftables.TableFamilyIPv6, 443, w.gate.Port6())
		// It is another's connection until the sandbox is known to have that address too.
		gone(t, dial("["+good6+"]:443"))
		known := Sandbox{ID: "i1", IPv6: netip.MustParseAddr(guest6), Internet: true}
		if err := w.gate.Set(netip.MustParseAddr(guest), known); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(dial("[" + good6 + "]:443")).ReadString('\n'); err != nil || line != good6+"\n" {
			t.Errorf("by IPv6 reached %q (%v)", line, err)
		}
		gone(t, dial(fmt.Sprintf("[%s]:%d", good6, w.gate.Port6())))
		w.gate.Remove(netip.MustParseAddr(guest))
		gone(t, dial("["+good6+"]:443"))
		w.set(guest, cube.NetworkPolicy{})
	}
	if line, err := bufio.NewReader(dial(good + ":443")).ReadString('\n'); err != nil || line != good+"\n" {
		t.Errorf("reached %q (%v)", line, err)
	}
	gone(t, dial(fmt.Sprintf("%s:%d", good, w.gate.Port())))
	if e := w.wait(func(e Event) bool { return !e.Allowed }); e.Rule != ruleDirect {
		t.Errorf("observed %+v", e)
	}
	if !isLocal(netip.MustParseAddr(good)) || !isLocal(netip.MustParseAddr("198.51.100.1")) {
		t.Error("an address of this machine, or one without a route, is taken for the internet's")
	}
}

// redirect sends the connections to a port to another.
func redirect(t *testing.T, family nftables.TableFamily, from, to uint16) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	port := func(p uint16) []byte { return []byte{byte(p >> 8), byte(p)} }
	table := c.AddTable(&nftables.Table{Name: "gate", Family: family})
	chain := c.AddChain(&nftables.Chain{
		Name: "out", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syscall.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: port(from)},
		&expr.Immediate{Register: 1, Data: port(to)},
		&expr.Redir{RegisterProtoMin: 1},
	}})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

package internet

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// The link of the machine under test, in IPv6.
const (
	Machine6Addr = "2001:db8:ffff::1"
	Router6Addr  = "2001:db8:ffff::2"
)

// Six are hosts of IPv6 with names.
var six = map[string][]string{
	"six.example":      {"2001:db8::1"},
	"www.six.example":  {"2001:db8::1"},
	"bad6.example":     {"2001:db8::66"},
	"dual.example":     {"203.0.113.1", "2001:db8::1"},
	"rebound6.example": {"fd00:ec2::254"},
}

// Datagram is one of UDP that has come by IPv6.
type Datagram struct{ From, To, Data string }

// Connect6 gives a machine that is connected an address of IPv6, and no route yet. The internet answers at all
// of its addresses, also those that lead nowhere else: on port 80 and 443 as
// elsewhere, on 7 with an echo, and on 443 with that of datagrams.
func (i *Internet) Connect6(machine *Space) error {
	err := i.Do(func() error {
		if err := addStatic(linkName, Router6Addr+"/64"); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		_, all, _ := net.ParseCIDR("::/0")
		err = netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_MAIN})
		if err != nil {
			return fmt.Errorf("taking all addresses: %w", err)
		}
		return nil
	})
	if err == nil {
		err = machine.Do(func() error { return addStatic(linkName, Machine6Addr+"/64") })
	}
	if err != nil {
		return err
	}
	for name, addresses := range six {
		i.SetName(name, addresses...)
	}
	return errors.Join(i.serveWeb6(), i.serveStream("tcp6", ":7", false, echo), i.serveEchoes6("7"), i.serveEchoes6("443"))
}

// addStatic gives a link that is up an address that it has at once.
func addStatic(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	addr.Flags = unix.IFA_F_NODAD
	return netlink.AddrReplace(link, addr)
}

func (i *Internet) serveWeb6() error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.RemoteAddr) })
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s\n", here(r), r.Host, r.Header.Get("X-Secret"))
	})
	return i.serve("tcp6", mux)
}

// serveEchoes6 answers each datagram to a port with itself, from where it was sent
// to.
func (i *Internet) serveEchoes6(port string) error {
	conn, err := i.ListenPacket("udp6", "[::]:"+port)
	if err != nil {
		return err
	}
	i.closers = append(i.closers, conn)
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1))
	})
	packets := ipv6.NewPacketConn(conn)
	if err := errors.Join(err, failed, packets.SetControlMessage(ipv6.FlagDst, true)); err != nil {
		return err
	}
	i.all.Go(func() {
		buffer := make([]byte, 1<<16)
		for {
			n, about, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			i.mu.Lock()
			i.received = append(i.received, Datagram{hostOf(from), about.Dst.String(), string(buffer[:n])})
			i.mu.Unlock()
			_, _ = packets.WriteTo(buffer[:n], &ipv6.ControlMessage{Src: about.Dst}, from)
		}
	})
	return nil
}

// Received are the datagrams that have come, in their order.
func (i *Internet) Received() []Datagram {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.received)
}

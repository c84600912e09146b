package gvisor

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"cube"
	"cube/internal/internet"
	"cube/internal/testhost"
)

// wire sends frames as a sandbox's kernel could that somebody has taken over.
type wire struct {
	t         *testing.T
	socket    int
	from, to  net.HardwareAddr
	guest     netip.Addr
	host      string // the interface
	nextPort  uint16
	nextIdent uint32
}

func openWire(t *testing.T, e *Engine, id cube.SandboxID) *wire {
	t.Helper()
	r, _ := e.lookup(id)
	link := linkOf(t, e, id)
	outside, err := netlink.LinkByName(link.HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, to: outside.Attrs().HardwareAddr, guest: link.Guest6.Addr(), host: link.HostInterface, nextPort: 40000}
	within, err := netns.GetFromPid(r.Sentry.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer within.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if err := netns.Set(within); err != nil {
		t.Fatal(err)
	}
	var inside netlink.Link
	inside, err = netlink.LinkByName("eth0")
	if err == nil {
		w.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	}
	if err == nil {
		err = unix.Bind(w.socket, &unix.SockaddrLinklayer{Ifindex: inside.Attrs().Index})
	}
	if back := netns.Set(before); back != nil {
		t.Fatal(back)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(w.socket) })
	w.from = inside.Attrs().HardwareAddr
	return w
}

// send sends one packet of IPv6: next says what the first byte after the header is of.
func (w *wire) send(source, destination netip.Addr, hops, next byte, payload []byte) {
	w.t.Helper()
	frame := slices.Concat(w.to, w.from, []byte{0x86, 0xdd})
	frame = append(frame, 0x60, 0, 0, 0)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(payload)))
	frame = append(frame, next, hops)
	frame = slices.Concat(frame, source.AsSlice(), destination.AsSlice(), payload)
	if _, err := unix.Write(w.socket, frame); err != nil {
		w.t.Fatal(err)
	}
}

// datagram is one of UDP to port 7.
func (w *wire) datagram(source, destination netip.Addr, data string) []byte {
	w.nextPort++
	d := binary.BigEndian.AppendUint16(nil, w.nextPort)
	d = binary.BigEndian.AppendUint16(d, 7)
	d = binary.BigEndian.AppendUint16(d, uint16(8+len(data)))
	d = append(append(d, 0, 0), data...)
	return withSum(d, 6, source, destination, unix.IPPROTO_UDP)
}

// withSum puts the checksum in its place: RFC 8200, 8.1.
func withSum(d []byte, at int, source, destination netip.Addr, protocol byte) []byte {
	all := slices.Concat(source.AsSlice(), destination.AsSlice(), []byte{0, 0, byte(len(d) >> 8), byte(len(d)), 0, 0, 0, protocol}, d)
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	var sum uint32
	for i := 0; i < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	for sum>>16 > 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(d[at:], ^uint16(sum))
	return d
}

// fragments are the pieces of a payload, the first of so many bytes.
func (w *wire) fragments(next byte, payload []byte, cuts ...int) (pieces [][]byte) {
	w.nextIdent++
	begin := 0
	for _, end := range append(cuts, len(payload)) {
		more := byte(1)
		if end == len(payload) {
			more = 0
		}
		header := []byte{next, 0, byte(begin >> 8), byte(begin) | more}
		pieces = append(pieces, append(binary.BigEndian.AppendUint32(header, w.nextIdent), payload[begin:end]...))
		begin = end
	}
	return pieces
}

func arrived(data string) bool {
	return slices.ContainsFunc(testhost.Internet().Received(), func(d internet.Datagram) bool { return strings.HasPrefix(d.Data, data) })
}

// What a sandbox's kernel could send that is nothing but a packet from its own
// address, with a header that the rules read, goes nowhere, and changes nothing.
func TestIPv6Frames(t *testing.T) {
	e := open6(t, dataDir(t))
	id, neighbour := started(t, e), started(t, e)
	w := openWire(t, e, id)
	server := netip.MustParseAddr("2001:db8::1")
	udp := byte(unix.IPPROTO_UDP)

	w.send(w.guest, server, 64, udp, w.datagram(w.guest, server, "plain"))
	eventually(t, func() bool { return arrived("plain") })
	long := w.datagram(w.guest, server, "in pieces "+strings.Repeat("x", 1000))
	for _, piece := range w.fragments(udp, long, 512) {
		w.send(w.guest, server, 64, unix.IPPROTO_FRAGMENT, piece)
	}
	eventually(t, func() bool { return arrived("in pieces") })

	for name, source := range map[string]netip.Addr{
		"a neighbour": linkOf(t, e, neighbour).Guest6.Addr(), "the gateway": linkOf(t, e, id).Host6.Addr(),
		"the machine": netip.MustParseAddr(internet.Machine6Addr), "a stranger": netip.MustParseAddr("2001:db8:5::5"),
		"nobody": netip.IPv6Unspecified(), "loopback": netip.IPv6Loopback(), "a link": netip.MustParseAddr("fe80::5"),
		"another of its own network": linkOf(t, e, id).Host6.Addr().Next().Next(),
	} {
		w.send(source, server, 64, udp, w.datagram(source, server, "ATTACK as "+name))
	}
	behind := func(name string, next byte, header ...byte) { // a header before the datagram
		w.send(w.guest, server, 64, next, append(append([]byte{udp}, header...), w.datagram(w.guest, server, "ATTACK behind "+name)...))
	}
	padding := []byte{0, 1, 4, 0, 0, 0, 0}
	behind("hop-by-hop options", unix.IPPROTO_HOPOPTS, padding...)
	behind("options", unix.IPPROTO_DSTOPTS, padding...)
	behind("a route that is walked already", unix.IPPROTO_ROUTING, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	w.send(w.guest, server, 64, unix.IPPROTO_DSTOPTS, slices.Concat([]byte{unix.IPPROTO_DSTOPTS}, padding, []byte{udp}, padding, w.datagram(w.guest, server, "ATTACK behind two headers")))
	options := slices.Concat([]byte{udp}, padding, w.datagram(w.guest, server, "ATTACK in pieces, behind options"))
	for _, piece := range w.fragments(unix.IPPROTO_DSTOPTS, options, 8) {
		w.send(w.guest, server, 64, unix.IPPROTO_FRAGMENT, piece)
	}
	over := w.fragments(udp, w.datagram(w.guest, server, "ATTACK in pieces that overlap "+strings.Repeat("y", 100)), 64)
	over[1] = slices.Concat(over[1][:2], []byte{0, 56 | over[1][3]&1}, over[1][4:8], over[1])[:len(over[1])]
	for _, piece := range over {
		w.send(w.guest, server, 64, unix.IPPROTO_FRAGMENT, piece)
	}
	closed := netip.MustParseAddr("fd00:ec2::254")
	w.send(w.guest, closed, 64, udp, w.datagram(w.guest, closed, "ATTACK to a closed address"))
	toAll := netip.MustParseAddr("ff0e::1")
	w.send(w.guest, toAll, 64, udp, w.datagram(w.guest, toAll, "ATTACK to a group"))

	// A router, a redirect and neighbours, by which the machine would believe a
	// sandbox where others are.
	routes := func() (all []string) {
		list, err := netlink.RouteList(nil, netlink.FAMILY_V6)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			all = append(all, r.String())
		}
		return all
	}
	before := routes()
	link, everybody := netip.MustParseAddr("fe80::5"), netip.MustParseAddr("ff02::1")
	gateway := linkOf(t, e, id).Host6.Addr()
	target := linkOf(t, e, neighbour).Guest6.Addr()
	own := append([]byte{2, 1}, w.from...) // the option of a target's link address
	prefix := slices.Concat([]byte{3, 4, 64, 0xc0, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 0}, netip.MustParseAddr("2001:db8:bad::").AsSlice())
	for _, m := range []struct {
		source, to netip.Addr
		message    []byte
	}{
		{link, everybody, slices.Concat([]byte{134, 0, 0, 0, 64, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, prefix)},
		{link, gateway, slices.Concat([]byte{134, 0, 0, 0, 64, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, prefix)},
		{w.guest, gateway, slices.Concat([]byte{137, 0, 0, 0, 0, 0, 0, 0}, w.guest.AsSlice(), server.AsSlice())},
		{w.guest, everybody, slices.Concat([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, target.AsSlice(), own)},
		{w.guest, gateway, slices.Concat([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, w.guest.AsSlice(), []byte{2, 1, 2, 2, 2, 2, 2, 2})},
		{w.guest, gateway, slices.Concat([]byte{135, 0, 0, 0, 0, 0, 0, 0}, gateway.AsSlice(), []byte{1, 1, 2, 2, 2, 2, 2, 2})},
	} {
		w.send(m.source, m.to, 255, unix.IPPROTO_ICMPV6, withSum(m.message, 2, m.source, m.to, unix.IPPROTO_ICMPV6))
	}

	w.send(w.guest, server, 64, udp, w.datagram(w.guest, server, "last"))
	eventually(t, func() bool { return arrived("last") })
	for _, d := range testhost.Internet().Received() {
		if strings.Contains(d.Data, "ATTACK") {
			t.Errorf("there came %+v", d)
		}
		if d.From != internet.Machine6Addr {
			t.Errorf("a datagram came from %s", d.From)
		}
	}
	if after := routes(); !slices.Equal(before, after) {
		t.Errorf("the routes were %q and are %q", before, after)
	}
	outside, err := netlink.LinkByName(w.host)
	if err != nil {
		t.Fatal(err)
	}
	known, err := netlink.NeighList(outside.Attrs().Index, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range known {
		if n.HardwareAddr != nil && (n.State != netlink.NUD_PERMANENT || n.HardwareAddr.String() != w.from.String()) && n.State != netlink.NUD_NOARP {
			t.Errorf("the machine believes that there is %v", n)
		}
	}
	for _, sandbox := range []cube.SandboxID{id, neighbour} {
		if got := ask(t, e, sandbox, "-g http://[2001:db8::1]/who"); got != "2001:db8::1 [2001:db8::1]" {
			t.Errorf("afterwards a sandbox gets %q", got)
		}
	}
}

// Without IPv6 not a packet of it gets out, whatever the sandbox's kernel does.
func TestIPv6IsClosedWithoutIt(t *testing.T) {
	e := open6(t, dataDir(t), func(c *Config) { c.Network6 = netip.Prefix{} })
	id := started(t, e)
	w := openWire(t, e, id)
	server := netip.MustParseAddr("2001:db8::1")
	for _, source := range []string{"fd63:7562:6500::2", internet.Machine6Addr, "fe80::5"} {
		from := netip.MustParseAddr(source)
		w.send(from, server, 64, unix.IPPROTO_UDP, w.datagram(from, server, "ATTACK without IPv6"))
	}
	if got := ask(t, e, id, "http://"+testhost.GoodAddr+"/who"); got != testhost.GoodAddr+" "+testhost.GoodAddr {
		t.Errorf("by IPv4 it gets %q", got)
	}
	if arrived("ATTACK without IPv6") {
		t.Error("it came")
	}
}

// A machine that is no router does not become one: it forwards for sandboxes alone,
// goes on listening to its own router, and forwards nothing once the server is gone.
func TestIPv6ForwardsForSandboxesAlone(t *testing.T) {
	const uplink = "internet0"
	setting := func(name string) string {
		value, err := os.ReadFile(settings6 + name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(value))
	}
	if _, err := os.Stat(settings6 + "lo/force_forwarding"); err != nil {
		t.Skip("this kernel does not forward by interface:", err)
	}
	// The operator's other network, behind the machine.
	inner, err := internet.NewSpace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inner.Close() })
	testhost.IPv6(t)
	attach(t, inner)
	listener, err := inner.ListenPacket("udp6", "[2001:db8:77::2]:7")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	heard := make(chan string, 100)
	go func() {
		buffer := make([]byte, 100)
		for {
			n, _, err := listener.ReadFrom(buffer)
			if err != nil {
				return
			}
			heard <- string(buffer[:n])
		}
	}()
	say := func(from func(network, address string) (net.Conn, error), what string) {
		c, err := from("udp6", "[2001:db8:77::2]:7")
		if err == nil {
			_, err = c.Write([]byte(what))
			_ = c.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fromOutside := func(network, address string) (net.Conn, error) {
		return testhost.Internet().Dial(t.Context(), network, address)
	}
	// next is what is heard first, of what outside and then the machine have said.
	next := func() string {
		say(fromOutside, "from outside")
		for last := time.Now().Add(time.Minute); time.Now().Before(last); {
			say(net.Dial, "from the machine")
			select {
			case what := <-heard:
				return what
			case <-time.After(100 * time.Millisecond):
			}
		}
		t.Fatal("nothing is heard")
		return ""
	}
	drain := func() {
		for len(heard) > 0 {
			<-heard
		}
	}

	if got := setting("all/forwarding"); got != "0" {
		t.Fatalf("the machine forwards everything before the test (%s)", got)
	}
	if err := setForwarding(uplink, true); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return next() == "from outside" })
	// That is its operator's wish, which the server leaves as it is.
	dir := dataDir(t)
	if err := open6(t, dir).Close(); err != nil || setting(uplink+"/force_forwarding") != "1" {
		t.Errorf("closed with %v, the operator's setting is %s", err, setting(uplink+"/force_forwarding"))
	}
	if err := setForwarding(uplink, false); err != nil {
		t.Fatal(err)
	}

	e := open6(t, dir)
	id := started(t, e)
	if got := ask(t, e, id, "-g http://[2001:db8::1]/who"); got != "2001:db8::1 [2001:db8::1]" {
		t.Errorf("a sandbox gets %q", got)
	}
	for name, want := range map[string]string{
		"all/forwarding": "0", "default/forwarding": "0", uplink + "/forwarding": "0", uplink + "/accept_ra": setting("default/accept_ra"),
		uplink + "/force_forwarding": "1", "default/force_forwarding": "0", "internal0/force_forwarding": "0",
	} {
		if got := setting(name); got != want {
			t.Errorf("net.ipv6.conf.%s is %s, want %s", strings.ReplaceAll(name, "/", "."), got, want)
		}
	}
	drain()
	for range 5 {
		if got := next(); got != "from the machine" {
			t.Errorf("%q is heard", got)
		}
		drain()
	}
	// A server that takes over from one that was killed knows that it is its own.
	e = open6(t, dir)
	if err := e.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if got := setting(uplink + "/force_forwarding"); got != "0" {
		t.Errorf("afterwards the uplink forwards: %s", got)
	}
}

// attach links another network to the tests' machine.
func attach(t *testing.T, inner *internet.Space) {
	t.Helper()
	give := func(name, address string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		return netlink.AddrAdd(link, addr)
	}
	here, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	err = inner.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "internal0"}, PeerName: "internal0", PeerNamespace: netlink.NsFd(here)})
	})
	if err == nil {
		err = give("internal0", "2001:db8:77::1/64")
	}
	if err == nil {
		err = inner.Do(func() error { return give("internal0", "2001:db8:77::2/64") })
	}
	if err != nil {
		t.Fatal(err)
	}
	_, network, _ := net.ParseCIDR("2001:db8:77::/64")
	route := &netlink.Route{Dst: network, Gw: net.ParseIP(internet.Machine6Addr)}
	if err := testhost.Internet().Do(func() error { return netlink.RouteAdd(route) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = testhost.Internet().Do(func() error { return netlink.RouteDel(route) })
		if link, err := netlink.LinkByName("internal0"); err == nil {
			_ = netlink.LinkDel(link)
		}
	})
}

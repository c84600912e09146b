package e2e

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"cube/internal/internet"
	"cube/internal/testhost"
)

// What a sandbox sends past its own kernel goes where its policy leads, or nowhere:
// raw packets, forged sources, fragments, options, other protocols.
func TestASandboxWhoseKernelIsTakenOver(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3 inside")
	}
	s := startOnInternet(t)
	c := s.createWith(map[string]any{"allowOut": []string{testhost.GoodAddr}, "denyOut": []string{"0.0.0.0/0"}})
	neighbour := s.create()
	a, b := s.takeOver(c), s.takeOver(neighbour)
	addr := netip.MustParseAddr
	good, bad, machine := addr(testhost.GoodAddr), addr(testhost.BadAddr), addr(internet.MachineAddr)
	uplink, err := testhost.Internet().Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer uplink.Close()
	inside, err := b.space.Watch(b.link)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()

	// The neighbour's connection with the server, in which others may want to speak.
	stream, err := s.startShell(t.Context(), neighbour, "root", `python3 -u -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7))
print("listening")
while True: s.recv(1500)'`)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for heard := ""; heard != "listening\n"; {
		event, err := stream.next()
		if err != nil || event.End != nil {
			t.Fatalf("the neighbour does not listen: %v %+v", err, event)
		}
		heard += string(event.Data.Stdout)
	}
	ours, err := net.DialUDP("udp4", &net.UDPAddr{IP: b.host.AsSlice()}, &net.UDPAddr{IP: b.guest.AsSlice(), Port: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	ourPort := ours.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if _, err := ours.Write([]byte("of the server")); err != nil {
		t.Fatal(err)
	}
	arrives(t, inside, "of the server")
	b.send(t, ipv4(17, b.guest, b.host, 0, nil, udp(7, ourPort, "of the neighbour")))
	if got := read(ours); got != "of the neighbour" {
		t.Fatalf("the neighbour's own answer arrives as %q", got)
	}
	b.send(t, ipv4(17, b.guest, good, 0, nil, udp(4321, 7, "the neighbour asks")))
	arrives(t, uplink, "the neighbour asks")

	// What is allowed arrives, so that what does not was stopped.
	a.send(t, ipv4(17, a.guest, good, 0, nil, udp(1234, 7, "allowed")))
	arrives(t, uplink, "allowed")
	whole := udp(1235, 7, "allowed, but in two pieces")
	a.send(t, ipv4(17, a.guest, good, 0x2000, nil, whole[:16]), ipv4(17, a.guest, good, 2, nil, whole[16:]))
	arrives(t, uplink, "allowed, but in two pieces")

	loose := append([]byte{131, 7, 4}, bad.AsSlice()...) // loose source routing: RFC 791
	strict := append([]byte{137, 7, 4}, bad.AsSlice()...)
	tooLong := binary.BigEndian.AppendUint16(nil, 0)
	six := func(next byte, payload []byte) []byte {
		packet := append([]byte{0x60, 0, 0, 0, 0, byte(len(payload)), next, 64}, addr("2001:db8::66").AsSlice()...)
		return append(append(packet, addr("2001:db8::1").AsSlice()...), payload...)
	}
	hopByHop := append([]byte{17, 0, 1, 4, 0, 0, 0, 0}, udp(1, 7, "attack")...)
	for what, packet := range map[string][]byte{
		"to a denied address":                 ipv4(17, a.guest, bad, 0, nil, udp(1, 7, "attack")),
		"TCP to a denied address":             ipv4(6, a.guest, bad, 0, nil, syn(a.guest, bad, 1, 7, "attack")),
		"ICMP to a denied address":            ipv4(1, a.guest, bad, 0, nil, append([]byte{8, 0, 0, 0, 0, 0, 0, 0}, "attack"...)),
		"GRE to a denied address":             ipv4(47, a.guest, bad, 0, nil, []byte("    attack")),
		"to a private address":                ipv4(17, a.guest, addr("10.99.99.1"), 0, nil, udp(1, 7, "attack")),
		"to the metadata service":             ipv4(6, a.guest, addr(internet.Metadata), 0, nil, syn(a.guest, addr(internet.Metadata), 1, 80, "attack")),
		"in the neighbour's name":             ipv4(17, b.guest, bad, 0, nil, udp(1, 7, "attack")),
		"in the neighbour's name, allowed":    ipv4(17, b.guest, good, 0, nil, udp(1, 7, "attack")),
		"in the neighbour's connection":       ipv4(17, b.guest, good, 0, nil, udp(4321, 7, "attack")),
		"in the machine's name":               ipv4(17, machine, good, 0, nil, udp(1, 7, "attack")),
		"in the name of the link's other end": ipv4(17, a.host, good, 0, nil, udp(1, 7, "attack")),
		"in a stranger's name":                ipv4(17, addr("8.8.8.8"), good, 0, nil, udp(1, 7, "attack")),
		"in loopback's name":                  ipv4(17, addr("127.0.0.1"), good, 0, nil, udp(1, 7, "attack")),
		"in nobody's name":                    ipv4(17, addr("0.0.0.0"), good, 0, nil, udp(1, 7, "attack")),
		"to the neighbour":                    ipv4(17, a.guest, b.guest, 0, nil, udp(1, 7, "attack")),
		"to the neighbour, as its other end":  ipv4(17, b.host, b.guest, 0, nil, udp(ourPort, 7, "attack")),
		"an answer that the neighbour awaits": ipv4(17, good, b.guest, 0, nil, udp(7, 4321, "attack")),
		"an answer to the machine's address":  ipv4(17, good, machine, 0, nil, udp(7, 4321, "attack")),
		"what the server awaits of another":   ipv4(17, b.guest, b.host, 0, nil, udp(7, ourPort, "attack")),
		"loose source routing":                ipv4(17, a.guest, good, 0, append(loose, 0), udp(1, 7, "attack")),
		"strict source routing":               ipv4(17, a.guest, good, 0, append(strict, 0), udp(1, 7, "attack")),
		"recorded route":                      ipv4(17, a.guest, good, 0, []byte{7, 7, 4, 0, 0, 0, 0, 0}, udp(1, 7, "attack")),
		"options without an end":              ipv4(17, a.guest, good, 0, []byte{131, 255, 4, 0}, udp(1, 7, "attack")),
		"a first fragment alone":              ipv4(17, a.guest, bad, 0x2000, nil, udp(1, 7, "attack..")),
		"a last fragment alone":               ipv4(17, a.guest, bad, 1, nil, []byte("attack")),
		"a fragment of eight bytes":           ipv4(6, a.guest, bad, 0x2000, nil, syn(a.guest, bad, 1, 7, "")[:8]),
		"a fragment past the end":             ipv4(17, a.guest, bad, 0x1fff, nil, append(tooLong, "attack"...)),
		"no header behind":                    ipv4(6, a.guest, bad, 0, nil, nil),
		"to everybody":                        ipv4(17, a.guest, addr("255.255.255.255"), 0, nil, udp(1, 7, "attack")),
		"to a group":                          ipv4(17, a.guest, addr("224.0.0.251"), 0, nil, udp(1, 5353, "attack")),
		"IPv4 in IPv4, to another":            ipv4(4, a.guest, bad, 0, nil, ipv4(17, a.guest, bad, 0, nil, udp(1, 7, "attack"))),
	} {
		before := len(uplink.Find(strange(a, b)))
		a.send(t, packet)
		if after := len(uplink.Find(strange(a, b))); after != before {
			t.Errorf("%s: it left, while it was sent", what)
		}
	}
	for what, packet := range map[string][]byte{"IPv6": six(17, udp(1, 7, "attack")), "IPv6 with an extension": six(0, hopByHop)} {
		if err := a.space.Send(a.link, a.frame(0x86dd, packet)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	// A neighbour's address and the router's, claimed on this link.
	for _, claimed := range []netip.Addr{b.guest, a.host, addr(internet.RouterAddr)} {
		arp := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, a.from...)
		arp = append(append(arp, claimed.AsSlice()...), a.to...)
		if err := a.space.Send(a.link, a.frame(0x0806, append(arp, a.host.AsSlice()...))); err != nil {
			t.Fatal(err)
		}
	}

	// What was sent last arrives last.
	a.send(t, ipv4(17, a.guest, good, 0, nil, udp(1236, 7, "the end")))
	arrives(t, uplink, "the end")
	if _, err := ours.Write([]byte("the end")); err != nil {
		t.Fatal(err)
	}
	arrives(t, inside, "the end")
	for _, p := range uplink.Find(strange(a, b)) {
		t.Errorf("it left: protocol %d from %s to %s: %q", p.Protocol, p.Src, p.Dst, p.Data)
	}
	for _, p := range inside.Find(strange(a, b)) {
		t.Errorf("it arrived at the neighbour: protocol %d from %s: %q", p.Protocol, p.Src, p.Data)
	}
	b.send(t, ipv4(17, b.guest, b.host, 0, nil, udp(7, ourPort, "of the neighbour, again")))
	if got := read(ours); got != "of the neighbour, again" {
		t.Errorf("in the server's conversation with the neighbour there is %q", got)
	}
	if got := s.fetch(neighbour, testhost.BadName, "curl"); got != "closed" { // whose authority it does not trust
		t.Errorf("the neighbour gets %q", got)
	}
	if out, _ := s.shell(neighbour, "user", "curl -sk --max-time 30 https://bad.example/who"); out != testhost.BadAddr+" bad.example \n" {
		t.Errorf("after another claimed its address the neighbour gets %q", out)
	}
}

// strange is what no sandbox here may send: the attacks' mark, or what goes to a
// place that only they go to.
func strange(a, b takenOver) func(internet.Packet) bool {
	return func(p internet.Packet) bool {
		return bytes.Contains(p.Data, []byte("attack")) || p.Dst.String() == testhost.BadAddr && p.DstPort != 443 || p.Dst.IsMulticast() && p.Dst.Is4() ||
			p.Src == a.guest || p.Src == b.guest
	}
}

// arrives waits for a packet.
func arrives(t *testing.T, w *internet.Watch, payload string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if len(w.Find(func(p internet.Packet) bool { return bytes.Contains(p.Data, []byte(payload)) })) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q does not arrive", payload)
		}
	}
}

func read(conn *net.UDPConn) string {
	buffer := make([]byte, 1500)
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	n, err := conn.Read(buffer)
	if err != nil {
		return err.Error()
	}
	return string(buffer[:n])
}

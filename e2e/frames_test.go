package e2e

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"cube/internal/internet"
)

// takenOver is the link of a sandbox whose kernel does what its attacker wants:
// frames are put on it past that kernel.
type takenOver struct {
	space    *internet.Space
	link     string
	from, to net.HardwareAddr
	guest    netip.Addr // the sandbox's
	host     netip.Addr // of the other side
}

// takeOver enters the network namespace that a sandbox's kernel runs in.
func (s *server) takeOver(c sandbox) takenOver {
	s.t.Helper()
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		s.t.Fatal(err)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range processes {
		cmdline, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(cmdline, []byte(c.SandboxID)) {
			continue
		}
		dir := filepath.Dir(path)
		if there, err := os.Readlink(filepath.Join(dir, "ns/net")); err != nil || there == here {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		space, err := internet.Of(pid)
		if err != nil {
			continue // it has ended
		}
		if t, ok := linkIn(space); ok {
			s.t.Cleanup(func() { _ = space.Close() })
			self, _ := s.shell(c, "user", `python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("192.0.2.1", 9)); print(s.getsockname()[0])'`)
			t.guest = netip.MustParseAddr(strings.TrimSpace(self))
			t.host = t.guest.Prev()
			return t
		}
		_ = space.Close() // that of a process which opens files and has no link
	}
	s.t.Fatalf("no process of sandbox %s has a link", c.SandboxID)
	return takenOver{}
}

// linkIn finds the link of a sandbox.
func linkIn(space *internet.Space) (takenOver, bool) {
	t := takenOver{space: space}
	peer := 0
	err := space.Do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if l.Type() == "veth" {
				t.link, t.from, peer = l.Attrs().Name, l.Attrs().HardwareAddr, l.Attrs().ParentIndex
			}
		}
		return err
	})
	if err != nil || peer == 0 {
		return t, false
	}
	other, err := netlink.LinkByIndex(peer)
	if err != nil {
		return t, false
	}
	t.to = other.Attrs().HardwareAddr
	return t, true
}

// send puts packets on the link.
func (t takenOver) send(test *testing.T, packets ...[]byte) {
	test.Helper()
	for _, p := range packets {
		if err := t.space.Send(t.link, t.frame(0x0800, p)); err != nil {
			test.Fatal(err)
		}
	}
}

func (t takenOver) frame(kind uint16, payload []byte) []byte {
	frame := append(bytes.Clone(t.to), t.from...)
	return append(binary.BigEndian.AppendUint16(frame, kind), payload...)
}

// ipv4 is a packet; options are padded by whoever calls.
func ipv4(protocol byte, src, dst netip.Addr, fragment uint16, options, payload []byte) []byte {
	header := make([]byte, 20, 20+len(options)+len(payload))
	header[0] = 0x40 | byte(5+len(options)/4)
	binary.BigEndian.PutUint16(header[2:], uint16(20+len(options)+len(payload)))
	binary.BigEndian.PutUint16(header[4:], 0x4242)
	binary.BigEndian.PutUint16(header[6:], fragment)
	header[8], header[9] = 64, protocol
	copy(header[12:], src.AsSlice())
	copy(header[16:], dst.AsSlice())
	header = append(header, options...)
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	return append(header, payload...)
}

// udp is a datagram without a checksum, which IPv4 allows.
func udp(from, to uint16, payload string) []byte {
	d := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	d = binary.BigEndian.AppendUint16(d, uint16(8+len(payload)))
	return append(append(d, 0, 0), payload...)
}

// syn begins a connection, with bytes that a listener would ignore.
func syn(src, dst netip.Addr, from, to uint16, payload string) []byte {
	s := make([]byte, 20, 20+len(payload))
	binary.BigEndian.PutUint16(s, from)
	binary.BigEndian.PutUint16(s[2:], to)
	s[4], s[12], s[13], s[14] = 1, 5<<4, 2, 0xff
	s = append(s, payload...)
	pseudo := append(append(src.AsSlice(), dst.AsSlice()...), 0, 6, byte(len(s)>>8), byte(len(s)))
	binary.BigEndian.PutUint16(s[16:], checksum(append(pseudo, s...)))
	return s
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

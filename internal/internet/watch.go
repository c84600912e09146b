package internet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Packet is one that came out of the machine under test.
type Packet struct {
	Protocol         byte // of IP: 1, 6, 17, 58; 0 for a frame that is no IP
	EtherType        uint16
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16 // of TCP and UDP
	Data             []byte // what follows the IP header, its first bytes
}

// Watch sees what comes out of the machine under test, or in by another link,
// from its making to Close.
type Watch struct {
	file *os.File
	done chan struct{}

	mu      sync.Mutex
	packets []Packet
}

// The bounds of what a watch keeps.
const (
	maxPackets = 1 << 16
	maxData    = 512
)

// Watch begins one.
func (i *Internet) Watch() (*Watch, error) { return i.Space.Watch(linkName) }

// Watch sees what comes in by a link of a namespace.
func (s *Space) Watch(link string) (*Watch, error) {
	w := &Watch{done: make(chan struct{})}
	err := s.Do(func() (err error) {
		w.file, err = openLink(link)
		return err
	})
	if err != nil {
		return nil, err
	}
	go w.read()
	return w, nil
}

func (w *Watch) read() {
	defer close(w.done)
	frame := make([]byte, 1<<16)
	for {
		n, err := w.file.Read(frame)
		if err != nil {
			return
		}
		p := parse(frame[:n])
		w.mu.Lock()
		if len(w.packets) < maxPackets {
			w.packets = append(w.packets, p)
		}
		w.mu.Unlock()
	}
}

// Find returns those that a test wants.
func (w *Watch) Find(wanted func(Packet) bool) []Packet {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []Packet
	for _, p := range w.packets {
		if wanted(p) {
			found = append(found, p)
		}
	}
	return found
}

// Close ends it.
func (w *Watch) Close() error {
	err := w.file.Close()
	<-w.done
	return err
}

// Send puts a frame on a link of a namespace, as whoever owns it may.
func (s *Space) Send(link string, frames ...[]byte) error {
	return s.Do(func() error {
		file, err := openLink(link)
		if err != nil {
			return err
		}
		defer file.Close()
		for _, frame := range frames {
			if _, err := file.Write(frame); err != nil {
				return err
			}
		}
		return nil
	})
}

// openLink opens a link for frames, as they come and go, without those of its own.
func openLink(name string) (*os.File, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}),
	)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// parse reads an Ethernet frame.
func parse(frame []byte) Packet {
	var p Packet
	const ethernet = 14
	if len(frame) < ethernet {
		return p
	}
	p.EtherType = binary.BigEndian.Uint16(frame[12:])
	packet, data := frame[ethernet:], []byte(nil)
	switch {
	case p.EtherType == unix.ETH_P_IP && len(packet) >= 20:
		header := int(packet[0]&15) * 4
		p.Protocol, p.Src, p.Dst = packet[9], netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
		data = packet[min(header, len(packet)):]
	case p.EtherType == unix.ETH_P_IPV6 && len(packet) >= 40:
		p.Protocol, p.Src, p.Dst = packet[6], netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		data = packet[40:]
	default:
		data = packet
	}
	if (p.Protocol == unix.IPPROTO_TCP || p.Protocol == unix.IPPROTO_UDP) && len(data) >= 4 {
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:])
	}
	p.Data = append(p.Data, data[:min(len(data), maxData)]...)
	return p
}

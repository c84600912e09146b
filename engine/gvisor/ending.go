package gvisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// guests are a sandbox's addresses, of one family each.
func (n *network) guests(link int) (guests []netip.Addr) {
	for _, f := range n.families() {
		guests = append(guests, f.guest(n.describe(link)))
	}
	return guests
}

// endGather is how long links wait for others before the kernel is asked for all of
// them at once: it goes through the whole of its table, which took 25 ms of
// processor time for 262,144 buckets.
const endGather = time.Second

// endOpen has nothing come back for sandboxes that are no more, for their
// addresses are others' next, and gives their links back. Nobody who ends a sandbox
// waits for it.
func (n *network) endOpen() {
	for {
		select {
		case <-time.After(endGather):
		case <-n.hurry:
		}
		n.mu.Lock()
		links := slices.Clone(n.ending)
		n.mu.Unlock()
		_ = n.endAll(links) // a kernel that does not tell is no reason to lose the links
		n.mu.Lock()
		for _, link := range links {
			delete(n.used, link)
		}
		n.ending = n.ending[len(links):]
		over := len(n.ending) == 0
		n.freed.Broadcast()
		n.mu.Unlock()
		if over {
			return
		}
	}
}

func (n *network) endAll(links []int) error {
	byFamily := map[bool][]netip.Addr{}
	for _, link := range links {
		for _, guest := range n.guests(link) {
			byFamily[guest.Is6()] = append(byFamily[guest.Is6()], guest)
		}
	}
	var failed []error
	for _, guests := range byFamily {
		all, err := n.tracked.of(guests...)
		failed = append(failed, err)
		for _, c := range all {
			failed = append(failed, n.tracked.forget(c))
		}
	}
	return errors.Join(failed...)
}

// endRefused ends the connections of a sandbox that its rules do not allow, or
// would take to the gate now. The gate's own it has ended itself. Of TCP the
// sandbox is told, however silent the connection is.
func (n *network) endRefused(link int) error {
	if n.gate == nil { // refused with their next packet
		return nil
	}
	n.rules.Lock()
	now := n.held[link]
	n.rules.Unlock()
	var failed []error
	for _, guest := range n.guests(link) {
		all, err := n.tracked.of(guest)
		failed = append(failed, err)
		var told *asker
		for _, c := range all {
			tcp := c.protocol == unix.IPPROTO_TCP
			if c.redirected || n.stays(c, now) {
				continue
			}
			if failed = append(failed, n.tracked.forget(c)); !tcp {
				continue
			}
			if told == nil {
				if told, err = openAsker(n.interfaceName(link), guest); err != nil {
					failed = append(failed, err)
					break
				}
				defer told.close()
			}
			failed = append(failed, told.ask(c))
		}
	}
	return errors.Join(failed...)
}

// stays tells whether a connection that goes by its address may go on as it goes.
func (n *network) stays(c connection, now held) bool {
	if c.protocol == unix.IPPROTO_TCP && (now.proxied || now.gated && (c.to.Port() == 80 || c.to.Port() == 443)) {
		return false
	}
	allowed, _ := n.gate.ByAddress(c.from.Addr(), c.to.Addr())
	return allowed
}

// asker asks a sandbox about its connections in the other side's name, so that
// it answers: the answer is refused, as all that it sends there, and that ends the
// connection inside.
type asker struct {
	fd   int
	link *unix.SockaddrLinklayer
}

// openAsker speaks on a sandbox's link, beside the machine's own network: no rule
// and no connection that the kernel follows comes of it.
func openAsker(name string, guest netip.Addr) (*asker, error) {
	host, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("finding the interface %s: %w", name, err)
	}
	family, protocol := netlink.FAMILY_V4, uint16(unix.ETH_P_IP)
	if guest.Is6() {
		family, protocol = netlink.FAMILY_V6, unix.ETH_P_IPV6
	}
	at := &unix.SockaddrLinklayer{
		Protocol: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol)),
		Ifindex:  host.Attrs().Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
	neighbours, err := netlink.NeighList(host.Attrs().Index, family)
	if err != nil {
		return nil, fmt.Errorf("listing the neighbours of %s: %w", name, err)
	}
	for _, neighbour := range neighbours {
		if addr, ok := netip.AddrFromSlice(neighbour.IP); ok && addr.Unmap() == guest && len(neighbour.HardwareAddr) == int(at.Halen) {
			copy(at.Addr[:], neighbour.HardwareAddr)
		}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // receives nothing
	return &asker{fd, at}, err
}

func (a *asker) close() { _ = unix.Close(a.fd) }

// ask sends what no connection is at: whoever has one says where it is (RFC 9293,
// 3.10.7.4). Two, for one may be where it is.
func (a *asker) ask(c connection) error {
	return errors.Join(
		unix.Sendto(a.fd, segment(c, 1), 0, a.link),
		unix.Sendto(a.fd, segment(c, 1+math.MaxUint32/2), 0, a.link),
	)
}

// segment is an acknowledgement without data, from where a connection leads to
// who has opened it.
func segment(c connection, sequence uint32) []byte {
	const (
		tcpLength  = 20
		ack        = 0x10
		window     = 65535
		hops       = 64
		checksumAt = 16
	)
	from, to := c.to.Addr(), c.from.Addr()
	tcp := binary.BigEndian.AppendUint16(nil, c.to.Port())
	tcp = binary.BigEndian.AppendUint16(tcp, c.from.Port())
	tcp = binary.BigEndian.AppendUint32(tcp, sequence)
	tcp = binary.BigEndian.AppendUint32(tcp, sequence)
	tcp = append(tcp, tcpLength/4<<4, ack)
	tcp = binary.BigEndian.AppendUint16(tcp, window)
	tcp = append(tcp, 0, 0, 0, 0) // checksum, urgent pointer

	pseudo := append(from.AsSlice(), to.AsSlice()...)
	pseudo = append(pseudo, 0, unix.IPPROTO_TCP, 0, tcpLength)
	binary.BigEndian.PutUint16(tcp[checksumAt:], checksum(append(pseudo, tcp...)))
	if from.Is6() {
		ip := append([]byte{6 << 4, 0, 0, 0, 0, tcpLength, unix.IPPROTO_TCP, hops}, from.AsSlice()...)
		return append(append(ip, to.AsSlice()...), tcp...)
	}
	const ipLength = 20
	ip := append([]byte{4<<4 | ipLength/4, 0, 0, ipLength + tcpLength, 0, 0, 0, 0, hops, unix.IPPROTO_TCP, 0, 0}, from.AsSlice()...)
	ip = append(ip, to.AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return append(ip, tcp...)
}

// checksum is RFC 1071's.
func checksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum) //nolint:gosec // folded
}

package gate

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// originalDestination is where a connection went before the firewall redirected
// it here (linux/netfilter_ipv4.h, SO_ORIGINAL_DST). Of one that was not
// redirected it is the gate's own address, or an error.
func originalDestination(conn *net.TCPConn) (netip.AddrPort, error) {
	four := conn.LocalAddr().(*net.TCPAddr).IP.To4() != nil
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	level := unix.SOL_IPV6
	if four {
		level = unix.SOL_IP
	}
	var answer *unix.IPv6MTUInfo // the library's only answer that a socket address fits into
	var failed error
	if err := raw.Control(func(fd uintptr) {
		answer, failed = unix.GetsockoptIPv6MTUInfo(int(fd), level, unix.SO_ORIGINAL_DST)
	}); err != nil {
		return netip.AddrPort{}, err
	}
	if failed != nil {
		return netip.AddrPort{}, failed
	}
	addr := netip.AddrFrom16(answer.Addr.Addr)
	if four { // struct sockaddr_in has its address where sockaddr_in6 has its flow
		addr = netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, answer.Addr.Flowinfo)))
	}
	port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, answer.Addr.Port))
	return netip.AddrPortFrom(addr.Unmap(), port), nil
}

package gvisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tracked are the connections that the kernel follows: those of a sandbox can be
// found and forgotten. A forgotten one is decided about anew with its next packet,
// and nothing comes back by it.
type tracked struct {
	mu   sync.Mutex // held while the kernel is asked; guards what follows
	conn *netlink.Conn
}

// connection is one that a sandbox has opened, as the kernel follows it.
type connection struct {
	from, to   netip.AddrPort // ports are 0 where the protocol has none
	protocol   byte
	redirected bool // to this machine, the gate that is

	tuple, id []byte // what the kernel knows it by
}

// Attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctGet, ctDelete = 1, 2 // IPCTNL_MSG_CT_…

	ctTupleOriginal = 1 // CTA_…
	ctTupleReply    = 2
	ctID            = 12
	ctFilter        = 25

	ctTupleIP    = 1
	ctTupleProto = 2

	ctSource4, ctDestination4, ctSource6, ctDestination6 = 1, 2, 3, 4
	ctProtocol, ctSourcePort, ctDestinationPort          = 1, 2, 3

	ctFilterOriginal  = 1
	ctFilterSource    = 1 << 0
	nested            = unix.NLA_F_NESTED
	netfilterHeader   = 4 // bytes of struct nfgenmsg
	subsystemShift    = 8
	conntrackMessages = unix.NFNL_SUBSYS_CTNETLINK << subsystemShift
)

// of lists the connections that guests, of one family, have opened.
func (t *tracked) of(guests ...netip.Addr) ([]connection, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var filter []byte
	// The kernel leaves the others out, from Linux 5.8 on; of IPv6 it leaves out those
	// that are asked for, and keeps the others.
	if len(guests) == 1 && guests[0].Is4() {
		filter = sourceFilter(guests[0])
	}
	answers, err := t.ask(ctGet, netlink.Dump, guests[0], filter)
	if err != nil {
		return nil, fmt.Errorf("listing connections (that needs the kernel's nf_conntrack_netlink): %w", err)
	}
	var all []connection
	for _, m := range answers {
		c, err := parseConnection(m.Data)
		if err != nil {
			return nil, fmt.Errorf("reading a connection that the kernel follows: %w", err)
		}
		if slices.Contains(guests, c.from.Addr()) {
			all = append(all, c)
		}
	}
	return all, nil
}

func sourceFilter(guest netip.Addr) []byte {
	address := netlink.Attribute{Type: ctSource4, Data: guest.AsSlice()}
	flags := binary.NativeEndian.AppendUint32(nil, ctFilterSource)
	return slices.Concat(
		nest(netlink.Attribute{Type: ctTupleOriginal | nested, Data: nest(netlink.Attribute{Type: ctTupleIP | nested, Data: nest(address)})}),
		nest(netlink.Attribute{Type: ctFilter | nested, Data: nest(netlink.Attribute{Type: ctFilterOriginal, Data: flags})}),
	)
}

// forget has the kernel forget a connection; one that is not there is no error.
func (t *tracked) forget(c connection) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	which, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: ctTupleOriginal | nested, Data: c.tuple}, {Type: ctID, Data: c.id}})
	if err != nil {
		return err
	}
	if _, err = t.ask(ctDelete, netlink.Acknowledge, c.from.Addr(), which); errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// ask asks over the one connection to the kernel, which is kept as that of the
// rules is: closing one waits for the others' changes. t.mu is held.
func (t *tracked) ask(what netlink.HeaderType, flags netlink.HeaderFlags, guest netip.Addr, attributes []byte) (_ []netlink.Message, err error) {
	if t.conn == nil {
		if t.conn, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
			return nil, err
		}
	}
	family := byte(unix.AF_INET)
	if guest.Is6() {
		family = unix.AF_INET6
	}
	answers, err := t.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: conntrackMessages | what, Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...),
	})
	if err != nil && !errors.Is(err, unix.ENOENT) { // there may be more to read
		_ = t.conn.Close()
		t.conn = nil
	}
	return answers, err
}

func (t *tracked) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		_ = t.conn.Close()
		t.conn = nil
	}
}

// nest is one attribute within another; it cannot be too long.
func nest(a netlink.Attribute) []byte {
	data, _ := netlink.MarshalAttributes([]netlink.Attribute{a})
	return data
}

func parseConnection(data []byte) (connection, error) {
	var c connection
	if len(data) < netfilterHeader {
		return c, errors.New("it is too short")
	}
	attributes, err := netlink.NewAttributeDecoder(data[netfilterHeader:])
	if err != nil {
		return c, err
	}
	var answers tuple
	for attributes.Next() {
		switch attributes.Type() {
		case ctTupleOriginal:
			c.tuple = attributes.Bytes()
			original, err := parseTuple(c.tuple)
			if err != nil {
				return c, err
			}
			c.from, c.to, c.protocol = original.from, original.to, original.protocol
		case ctTupleReply:
			if answers, err = parseTuple(attributes.Bytes()); err != nil {
				return c, err
			}
		case ctID:
			c.id = attributes.Bytes()
		}
	}
	c.redirected = answers.from.Addr() != c.to.Addr()
	return c, attributes.Err()
}

// tuple is one direction of a connection.
type tuple struct {
	from, to netip.AddrPort
	protocol byte
}

func parseTuple(data []byte) (t tuple, err error) {
	parts, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return t, err
	}
	var from, to netip.Addr
	var fromPort, toPort uint16
	for parts.Next() {
		inner, err := netlink.NewAttributeDecoder(parts.Bytes())
		if err != nil {
			return t, err
		}
		inner.ByteOrder = binary.BigEndian
		addresses := parts.Type() == ctTupleIP
		for inner.Next() {
			switch kind := inner.Type(); {
			case addresses && (kind == ctSource4 || kind == ctSource6):
				from, _ = netip.AddrFromSlice(inner.Bytes())
			case addresses && (kind == ctDestination4 || kind == ctDestination6):
				to, _ = netip.AddrFromSlice(inner.Bytes())
			case parts.Type() != ctTupleProto:
			case kind == ctProtocol:
				t.protocol = inner.Uint8()
			case kind == ctSourcePort:
				fromPort = inner.Uint16()
			case kind == ctDestinationPort:
				toPort = inner.Uint16()
			}
		}
		if err := inner.Err(); err != nil {
			return t, err
		}
	}
	t.from, t.to = netip.AddrPortFrom(from, fromPort), netip.AddrPortFrom(to, toPort)
	return t, parts.Err()
}

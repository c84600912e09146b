package gvisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"cube/network/gate"
)

// The kernel tells of what the firewall refuses, so many packets a second of each
// sandbox and no more, to a group that is this server's; while nobody listens it
// tells nobody. In nftables' language:
//
//	update @told { iif limit rate 10/second burst 100 } log prefix "WHY" group GROUP
const (
	toldRate, toldBurst = 10, 100
	toldBytes           = 128 // of a packet: its headers
)

// Why something was refused, as the log's prefix.
const (
	refusedByPolicy  = "policy"
	refusedByLimit   = "limit"
	refusedByMachine = "machine"
)

// groupOf is the group of a server's table. Another's that has the same by chance
// is heard, and about sandboxes that nobody here knows.
func groupOf(table string) uint16 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(table))
	return uint16(h.Sum32()) //nolint:gosec // that much of it
}

// newTeller returns what adds the rule to a chain of a table: it lets everything
// go on.
func newTeller(c *nftables.Conn, t *nftables.Table) func(in *nftables.Chain, why string, parts ...[]expr.Any) {
	table := strings.TrimSuffix(t.Name, limitsSuffix)
	told := &nftables.Set{Table: t, Name: "told", KeyType: nftables.TypeIFIndex, Dynamic: true, Size: maxLinks, HasTimeout: true, Timeout: forgetAfter}
	failed := c.AddSet(told, nil)
	return func(in *nftables.Chain, why string, parts ...[]expr.Any) {
		if failed != nil { // of no set without elements
			return
		}
		rule(c, in, append(parts,
			eachLink(told, &expr.Limit{Type: expr.LimitTypePkts, Rate: toldRate, Unit: expr.LimitTimeSecond, Burst: toldBurst}),
			[]expr.Any{&expr.Log{
				Key:   1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_PREFIX,
				Group: groupOf(table), Snaplen: toldBytes, Data: []byte(why),
			}},
		)...)
	}
}

// refusals are what the kernel tells, from listenForRefusals to close.
type refusals struct {
	conn *netlink.Conn
	gate *gate.Gate
	all  sync.WaitGroup
}

// Of linux/netfilter/nfnetlink_log.h.
const (
	logMessages      = unix.NFNL_SUBSYS_ULOG << subsystemShift
	logPacket        = logMessages // NFULNL_MSG_…
	logConfig        = logMessages | 1
	logConfigCommand = 1 // NFULA_CFG_…
	logConfigMode    = 2
	logConfigTimeout = 4
	logBind          = 1  // NFULNL_CFG_CMD_…
	logCopyPacket    = 2  // NFULNL_COPY_…
	logPayload       = 9  // NFULA_…
	logPrefix        = 10 // NFULA_…
	logTimeout       = 10 // after which the kernel tells what it has, in 1/100 s
	logBuffer        = 1 << 20
)

// listenForRefusals hands what the kernel tells to the gate, which knows whose it is.
func listenForRefusals(table string, g *gate.Gate) (*refusals, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	settings := netlink.NewAttributeEncoder()
	settings.Bytes(logConfigCommand, []byte{logBind})
	settings.Bytes(logConfigMode, append(binary.BigEndian.AppendUint32(nil, toldBytes), logCopyPacket, 0))
	settings.Bytes(logConfigTimeout, binary.BigEndian.AppendUint32(nil, logTimeout))
	data, err := settings.Encode()
	if err == nil {
		_, err = conn.Execute(netlink.Message{
			Header: netlink.Header{Type: logConfig, Flags: netlink.Request | netlink.Acknowledge},
			Data:   append(binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, groupOf(table)), data...),
		})
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listening for the kernel's log of packets (nfnetlink_log): %w", err)
	}
	_ = conn.SetReadBuffer(logBuffer) // what is too much is lost, and nothing else
	r := &refusals{conn: conn, gate: g}
	r.all.Go(r.listen)
	return r, nil
}

func (r *refusals) listen() {
	for {
		messages, err := r.conn.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			return // it is closed
		}
		for _, m := range messages {
			if m.Header.Type == logPacket {
				r.tell(m.Data)
			}
		}
	}
}

func (r *refusals) tell(data []byte) {
	if len(data) < netfilterHeader {
		return
	}
	attributes, err := netlink.NewAttributeDecoder(data[netfilterHeader:])
	if err != nil {
		return
	}
	var packet []byte
	var why string
	for attributes.Next() {
		switch attributes.Type() {
		case logPayload:
			packet = attributes.Bytes()
		case logPrefix:
			why = attributes.String()
		}
	}
	from, to, protocol, ok := parsePacket(packet)
	if attributes.Err() != nil || !ok {
		return
	}
	r.gate.Refused(gate.Refusal{Guest: from, To: to, Protocol: protocol, Limit: why == refusedByLimit, Machine: why == refusedByMachine})
}

func (r *refusals) close() {
	if r != nil {
		_ = r.conn.Close()
		r.all.Wait()
	}
}

// parsePacket reads whence and whither a packet goes, as a sandbox has written it.
// The port is 0 of one that has none, or hides it.
func parsePacket(p []byte) (from netip.Addr, to netip.AddrPort, protocol byte, ok bool) {
	const four, six = 20, 40 // bytes of the headers
	var rest []byte
	var addr netip.Addr
	switch {
	case len(p) >= four && p[0]>>4 == 4:
		protocol = p[9]
		from, _ = netip.AddrFromSlice(p[12:16])
		addr, _ = netip.AddrFromSlice(p[16:20])
		if length := int(p[0]&0xf) * 4; length >= four && length < len(p) && binary.BigEndian.Uint16(p[6:])&0x1fff == 0 { // the first fragment
			rest = p[length:]
		}
	case len(p) >= six && p[0]>>4 == 6:
		protocol, rest = p[6], p[six:]
		from, _ = netip.AddrFromSlice(p[8:24])
		addr, _ = netip.AddrFromSlice(p[24:40])
	default:
		return from, to, 0, false
	}
	var port uint16
	if (protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_UDP) && len(rest) >= 4 {
		port = binary.BigEndian.Uint16(rest[2:])
	}
	return from, netip.AddrPortFrom(addr, port), protocol, true
}

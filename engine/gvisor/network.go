package gvisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cube/engine/gvisor/launch"
	"cube/network/gate"
)

// network gives each sandbox a link of its own to the host: four addresses of
// the pool (network, host, guest, broadcast) and a veth pair. The rules stand in
// one nftables table: those for all, by the prefix of the interfaces' names, and
// each sandbox's own, by its address.
type network struct {
	pool   netip.Prefix
	prefix string // of the names of the host's interfaces
	table  string
	gate   *gate.Gate // nil without one: names cannot be told apart, and asked for, then
	limits LinkLimits

	mu   sync.Mutex
	used map[int]bool
	next int // where to look for the next free link: a freed one rests as long as possible
	// ending are links whose sandboxes are no more and for which something may still
	// come back; endOpen is at work while there are any.
	ending []int
	freed  sync.Cond // tells that some of them have been given back

	tracked tracked

	rules sync.Mutex // held while the table changes; guards what follows
	held  map[int]held
	conn  *nftables.Conn // nil for none; see open
	turn  int            // of the next chain
}

// linkBits is the length of the prefix that one sandbox gets.
const linkBits = 30

// openNetwork installs the rules and makes the host forward. name tells this
// server's interfaces and table from another's; at most 10 characters.
func openNetwork(pool netip.Prefix, name string, g *gate.Gate, limits LinkLimits) (*network, error) {
	if !pool.Addr().Is4() || pool.Bits() > linkBits || pool != pool.Masked() {
		return nil, fmt.Errorf("the sandboxes' network %s must be an IPv4 network of /30 or larger, such as 10.213.0.0/16", pool)
	}
	n := &network{pool: pool, prefix: name + "-", table: name, gate: g, limits: limits, used: map[int]bool{}, held: map[int]held{}}
	n.freed.L = &n.mu
	if err := n.refuseOverlap(); err != nil {
		return nil, err
	}
	if err := errors.Join(installLimits(name, n.prefix, limits), installRules(name, n.prefix, pool, g)); err != nil {
		return nil, fmt.Errorf("installing the firewall rules with nftables (they need root and a kernel with nf_tables): %w", err)
	}
	// Without it nothing leaves a sandbox. The rules are in force already.
	const forwarding = "/proc/sys/net/ipv4/ip_forward"
	if now, err := os.ReadFile(forwarding); err != nil || strings.TrimSpace(string(now)) != "1" {
		if err := os.WriteFile(forwarding, []byte("1"), 0o644); err != nil {
			return nil, fmt.Errorf("letting the machine forward packets (net.ipv4.ip_forward): %w", err)
		}
	}
	return n, nil
}

// refuseOverlap refuses a pool that this machine already reaches elsewhere: its
// sandboxes would take packets that are meant for others.
func (n *network) refuseOverlap() error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("listing routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(route.Dst.IP.To4())
		ones, _ := route.Dst.Mask.Size()
		destination := netip.PrefixFrom(addr, ones)
		if !ok || ones == 0 || !destination.Overlaps(n.pool) {
			continue
		}
		link, err := netlink.LinkByIndex(route.LinkIndex)
		if err == nil && strings.HasPrefix(link.Attrs().Name, n.prefix) {
			continue // our own, of sandboxes that outlived the last server
		}
		return fmt.Errorf("the sandboxes' network %s overlaps with %s, which this machine has a route to: choose another with --sandbox-network", n.pool, destination)
	}
	return nil
}

// links is how many sandboxes the pool has room for.
func (n *network) links() int { return 1 << (linkBits - n.pool.Bits()) }

var errPoolEmpty = errors.New("all addresses of the sandboxes' network are in use")

// take reserves a link. If there is none it waits for those that are about to be
// free.
func (n *network) take() (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		for range n.links() {
			link := n.next
			n.next = (n.next + 1) % n.links()
			if !n.used[link] {
				n.used[link] = true
				return link, nil
			}
		}
		if len(n.ending) == 0 {
			return 0, errPoolEmpty
		}
		n.freed.Wait()
	}
}

// awaitEnded returns when nothing is on its way of sandboxes that are no more.
func (n *network) awaitEnded() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.ending) > 0 {
		n.freed.Wait()
	}
}

// keep marks the link of a sandbox that was found running.
func (n *network) keep(link int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used[link] = true
	n.next = max(n.next, (link+1)%n.links())
}

// release removes the host's interface of a link, if the kernel has not yet, and
// its sandbox's rules, and gives the link back once nothing comes for it.
func (n *network) release(link int) error {
	err := errors.Join(n.forget(link), removeLink(n.interfaceName(link)))
	if err == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.ending = append(n.ending, link); len(n.ending) == 1 {
			go n.endOpen() // waited for by awaitEnded
		}
	}
	return err
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing || errors.Is(err, unix.ENODEV) {
		return nil // the kernel removes it too, some time after the last process
	}
	if err != nil {
		return fmt.Errorf("removing the interface %s: %w", name, err)
	}
	return nil
}

func (n *network) interfaceName(link int) string { return fmt.Sprintf("%s%x", n.prefix, link) }

// describe returns what the helper process needs to set a link up.
func (n *network) describe(link int) launch.Network {
	base := n.pool.Addr().As4()
	first := binary.BigEndian.Uint32(base[:]) + uint32(link)<<(32-linkBits)
	at := func(offset uint32) netip.Prefix {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], first+offset)
		return netip.PrefixFrom(netip.AddrFrom4(a), linkBits)
	}
	return launch.Network{HostInterface: n.interfaceName(link), Host: at(1), Guest: at(2)}
}

// strayInterfaces lists the interfaces with our prefix whose link nobody has.
func (n *network) strayInterfaces() ([]string, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var stray []string
	for _, i := range interfaces {
		suffix, ours := strings.CutPrefix(i.Name, n.prefix)
		var link int
		if !ours {
			continue
		}
		if _, err := fmt.Sscanf(suffix, "%x", &link); err != nil || link > math.MaxInt32 || !n.used[link] {
			stray = append(stray, i.Name)
		}
	}
	return stray, nil
}

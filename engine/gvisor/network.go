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

	"cube"
	"cube/engine/gvisor/launch"
	"cube/network/gate"
)

// network gives each sandbox a link of its own to the host: four addresses of
// the pool (network, host, guest, broadcast) and a veth pair, and as many of IPv6
// if there is a pool of that. The rules stand in one nftables table: those for all,
// by the prefix of the interfaces' names, and each sandbox's own, by its address.
type network struct {
	pool   netip.Prefix
	pool6  netip.Prefix // not valid without IPv6
	prefix string       // of the names of the host's interfaces
	table  string
	gate   *gate.Gate // nil without one: names cannot be told apart, and asked for, then
	limits LinkLimits
	// guarded are the uplinks that this server has made forward IPv6; forward6 is
	// whether each link must be made to.
	guarded  []string
	forward6 bool

	mu   sync.Mutex
	used map[int]bool
	next int // where to look for the next free link: a freed one rests as long as possible
	// ending are links whose sandboxes are no more and for which something may still
	// come back; endOpen is at work while there are any.
	ending []int
	freed  sync.Cond     // tells that some of them have been given back
	hurry  chan struct{} // holds one; tells endOpen that somebody waits for that

	tracked  tracked
	refusals *refusals // nil for none
	traffic  traffic

	rules sync.Mutex // held while the table changes; guards what follows
	held  map[int]held
	conn  *nftables.Conn // nil for none; see open
	turn  int            // of the next chain
}

// linkBits is the length of the prefix that one sandbox gets.
const linkBits = 30

// openNetwork installs the rules and makes the host forward. name tells this
// server's interfaces and table from another's; at most 10 characters.
func openNetwork(pool, pool6 netip.Prefix, name string, g *gate.Gate, limits LinkLimits) (*network, error) {
	if !pool.Addr().Is4() || pool.Bits() > linkBits || pool != pool.Masked() {
		return nil, fmt.Errorf("the sandboxes' network %s must be an IPv4 network of /30 or larger, such as 10.213.0.0/16", pool)
	}
	n := &network{pool: pool, pool6: pool6, prefix: name + "-", table: name, gate: g, limits: limits, used: map[int]bool{}, held: map[int]held{}}
	n.freed.L = &n.mu
	n.hurry = make(chan struct{}, 1)
	n.traffic.last = map[int]cube.LinkStats{}
	if err := n.refuseOverlap(netlink.FAMILY_V4, pool, "--sandbox-network"); err != nil {
		return nil, err
	}
	forward, err := n.openIPv6()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(installLimits(name, n.prefix, limits), n.installRules()); err != nil {
		return nil, fmt.Errorf("installing the firewall rules with nftables (they need root and a kernel with nf_tables): %w", err)
	}
	if err := forward(); err != nil {
		return nil, err
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

// families are those that sandboxes have.
func (n *network) families() []family {
	if n.pool6.IsValid() {
		return []family{ipv4, ipv6}
	}
	return []family{ipv4}
}

func (n *network) poolOf(f family) netip.Prefix {
	if f == ipv6 {
		return n.pool6
	}
	return n.pool
}

// refuseOverlap refuses a pool that this machine already reaches elsewhere: its
// sandboxes would take packets that are meant for others.
func (n *network) refuseOverlap(family int, pool netip.Prefix, flag string) error {
	routes, err := netlink.RouteList(nil, family)
	if err != nil {
		return fmt.Errorf("listing routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(route.Dst.IP)
		addr = addr.Unmap()
		ones, _ := route.Dst.Mask.Size()
		destination := netip.PrefixFrom(addr, ones)
		if !ok || ones == 0 || !destination.Overlaps(pool) {
			continue
		}
		link, err := netlink.LinkByIndex(route.LinkIndex)
		if err == nil && strings.HasPrefix(link.Attrs().Name, n.prefix) {
			continue // our own, of sandboxes that outlived the last server
		}
		return fmt.Errorf("the sandboxes' network %s overlaps with %s, which this machine has a route to: choose another with %s", pool, destination, flag)
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
		n.awaitFreed()
	}
}

// awaitFreed waits until some links have been given back; n.mu is held.
func (n *network) awaitFreed() {
	select {
	case n.hurry <- struct{}{}:
	default: // it has been told
	}
	n.freed.Wait()
}

// awaitEnded returns when nothing is on its way of sandboxes that are no more.
func (n *network) awaitEnded() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.ending) > 0 {
		n.awaitFreed()
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
	err := errors.Join(n.forget(link), n.traffic.remove(n.interfaceName(link)))
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
	at := func(pool netip.Prefix, offset int) netip.Prefix {
		bytes := pool.Addr().AsSlice()
		tail := bytes[len(bytes)-4:]
		number := uint32(link)<<(32-linkBits) + uint32(offset) //nolint:gosec // within the pool
		binary.BigEndian.PutUint32(tail, binary.BigEndian.Uint32(tail)+number)
		addr, _ := netip.AddrFromSlice(bytes)
		return netip.PrefixFrom(addr, addr.BitLen()-(32-linkBits))
	}
	described := launch.Network{HostInterface: n.interfaceName(link), Host: at(n.pool, 1), Guest: at(n.pool, 2)}
	if n.pool6.IsValid() {
		described.Host6, described.Guest6, described.Forward6 = at(n.pool6, 1), at(n.pool6, 2), n.forward6
	}
	return described
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

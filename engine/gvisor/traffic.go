package gvisor

import (
	"fmt"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"cube"
)

// Traffic is what has gone over the links of all sandboxes since the server's
// start, those that are no more included.
type Traffic struct {
	Sent, Received uint64 // bytes, as sandboxes see it
	// Connections are those that sandboxes began, Refused those of them that were
	// too many; since the table of limits was made. 0 without limits.
	Connections, Refused uint64
}

// traffic adds up what the kernel counts at the host's end of each link.
type traffic struct {
	mu   sync.Mutex             // guards what follows
	last map[int]cube.LinkStats // by the interface's index
	sum  cube.LinkStats
}

// note takes a link's counters of now.
func (t *traffic) note(link netlink.Link) cube.LinkStats {
	var now cube.LinkStats
	if counted := link.Attrs().Statistics; counted != nil { // what the host receives, the sandbox has sent
		now = cube.LinkStats{Sent: counted.RxBytes, Received: counted.TxBytes}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.last[link.Attrs().Index]
	if now.Sent < was.Sent || now.Received < was.Received { // another link, of the same number
		was = cube.LinkStats{}
	}
	t.sum.Sent += now.Sent - was.Sent
	t.sum.Received += now.Received - was.Received
	t.last[link.Attrs().Index] = now
	return now
}

// remove removes a link, after a last look at it.
func (t *traffic) remove(name string) error {
	if link, err := netlink.LinkByName(name); err == nil {
		t.note(link)
		t.mu.Lock()
		delete(t.last, link.Attrs().Index)
		t.mu.Unlock()
	}
	return removeLink(name)
}

// linkStats counts one sandbox's.
func (n *network) linkStats(link int) (cube.LinkStats, error) {
	found, err := netlink.LinkByName(n.interfaceName(link))
	if err != nil {
		return cube.LinkStats{}, fmt.Errorf("finding the interface %s: %w", n.interfaceName(link), err)
	}
	return n.traffic.note(found), nil
}

// Traffic reads the counters.
func (e *Engine) Traffic() (Traffic, error) { return e.network.counted() }

func (n *network) counted() (Traffic, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return Traffic{}, err
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, n.prefix) {
			n.traffic.note(link)
		}
	}
	n.traffic.mu.Lock()
	all := Traffic{Sent: n.traffic.sum.Sent, Received: n.traffic.sum.Received}
	n.traffic.mu.Unlock()
	if n.limits == (LinkLimits{}) {
		return all, nil
	}
	n.rules.Lock()
	defer n.rules.Unlock()
	c, err := n.open()
	if err != nil {
		return all, err
	}
	t := &nftables.Table{Name: limitsTable(n.table), Family: nftables.TableFamilyINet}
	for chain, count := range map[string]*uint64{n.limits.form(): &all.Connections, limitedChain: &all.Refused} {
		rules, err := c.GetRules(t, &nftables.Chain{Name: chain, Table: t})
		if err != nil {
			n.hangUp()
			return all, fmt.Errorf("reading the firewall's counters: %w", err)
		}
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					*count += counter.Packets
				}
			}
		}
	}
	return all, nil
}

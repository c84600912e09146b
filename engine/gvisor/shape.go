package gvisor

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"cube/engine/gvisor/launch"
)

// shape makes what goes over a link wait for its turn, in a token bucket at each
// end, or no more. The sandbox's end is in the namespace of its kernel, which has
// no right to change it.
func (n *network) shape(link int, sentry launch.Process) error {
	process, err := findProcess(sentry)
	if err != nil {
		return fmt.Errorf("finding the sandbox's kernel: %w", err)
	}
	defer process.close()
	host, err := netlink.LinkByName(n.interfaceName(link))
	if err != nil {
		return fmt.Errorf("finding the interface %s: %w", n.interfaceName(link), err)
	}
	inside, err := netns.GetFromPid(sentry.PID)
	if err != nil {
		return fmt.Errorf("finding the network of the sandbox's kernel: %w", err)
	}
	defer func() { _ = inside.Close() }()
	if process.exited() { // else it was that kernel's network
		return nil
	}
	guest, err := netlink.NewHandleAt(inside)
	if err != nil {
		return fmt.Errorf("entering the network of the sandbox's kernel: %w", err)
	}
	defer guest.Close()
	err = errors.Join(
		n.limits.shape(&netlink.Handle{}, host.Attrs().Index),
		n.limits.shape(guest, host.Attrs().ParentIndex), // the other end
	)
	if err != nil {
		return fmt.Errorf("limiting the bandwidth of %s (it needs the kernel's sch_tbf): %w", host.Attrs().Name, err)
	}
	return nil
}

func (l LinkLimits) shape(h *netlink.Handle, index int) error {
	if l.Bandwidth > 0 {
		return h.QdiscReplace(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       l.bytes(),
			Buffer:     netlink.Xmittime(l.bytes(), l.burst()),
			Limit:      2 * l.burst(), // bytes that wait: 100 ms of them, or more
		})
	}
	// That of a server with other limits goes.
	link, err := h.LinkByIndex(index)
	if err != nil {
		return err
	}
	waiting, err := h.QdiscList(link)
	for _, q := range waiting {
		if q.Type() == "tbf" {
			err = errors.Join(err, h.QdiscDel(q))
		}
	}
	return err
}

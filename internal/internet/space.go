package internet

import (
	"context"
	"net"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Space is a network namespace that this process holds open: with the last who
// holds it, it is gone, and all that is in it.
type Space struct{ handle netns.NsHandle }

// NewSpace makes an empty one, with loopback.
func NewSpace() (*Space, error) {
	s := &Space{handle: netns.None()}
	err := apart(func() (err error) {
		if s.handle, err = netns.New(); err != nil {
			return err
		}
		return setUp("lo")
	})
	if err != nil {
		_ = s.handle.Close()
	}
	return s, err
}

// Here is the one that this process is in.
func Here() (*Space, error) {
	handle, err := netns.Get()
	return &Space{handle}, err
}

// Of is the one that a process is in.
func Of(pid int) (*Space, error) {
	handle, err := netns.GetFromPid(pid)
	return &Space{handle}, err
}

// Close lets go of it.
func (s *Space) Close() error { return s.handle.Close() }

// Do runs f in it. What f opens stays in it; the goroutines that f starts are not.
func (s *Space) Do(f func() error) error {
	return apart(func() error {
		if err := netns.Set(s.handle); err != nil {
			return err
		}
		return f()
	})
}

// apart runs f on a thread whose namespace f may change.
func apart(f func() error) error {
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer before.Close()
	failed := f()
	if err := netns.Set(before); err != nil {
		return err // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return failed
}

// Listen listens in it, on an address that needs no name server.
func (s *Space) Listen(network, address string) (l net.Listener, err error) {
	failed := s.Do(func() error {
		l, err = new(net.ListenConfig).Listen(context.Background(), network, address)
		return err
	})
	return l, failed
}

// ListenPacket is Listen for datagrams.
func (s *Space) ListenPacket(network, address string) (c net.PacketConn, err error) {
	failed := s.Do(func() error {
		c, err = new(net.ListenConfig).ListenPacket(context.Background(), network, address)
		return err
	})
	return c, failed
}

// Dial connects from it, to an address that needs no name server.
func (s *Space) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	failed := s.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, failed
}

// Start starts a program in it.
func (s *Space) Start(cmd *exec.Cmd) error { return s.Do(cmd.Start) }

func setUp(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, address := range addresses {
		addr, err := netlink.ParseAddr(address)
		if err == nil {
			err = netlink.AddrReplace(link, addr)
		}
		if err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// Package internet is an internet of the tests' own, in a network namespace:
// hosts at the documentation's addresses and at those that E2B's tests ask for,
// name servers, web servers with an authority, and a link to the machine on which
// the server under test runs. No packet leaves it: nothing leads to the real one.
//
// It is for tests alone, and needs root.
package internet

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
)

// The link of the machine under test.
const (
	MachineAddr = "198.51.100.1" // the machine
	RouterAddr  = "198.51.100.2" // the internet's side
	linkName    = "internet0"
)

// Internet is one, from Open to Close.
type Internet struct {
	*Space
	// Root is the certificate of the authority that all of its servers have, PEM.
	Root []byte

	authority *authority
	closers   []io.Closer
	all       sync.WaitGroup

	mu    sync.Mutex // guards what follows
	zone  map[string][]netip.Addr
	asked []Question
	hosts map[string]http.Handler // that somebody has added, by address

	received []Datagram // by IPv6
}

// Open makes one, with the places of places.go.
func Open() (_ *Internet, err error) {
	i := &Internet{zone: map[string][]netip.Addr{}, hosts: map[string]http.Handler{}}
	if i.authority, err = newAuthority(); err != nil {
		return nil, err
	}
	i.Root = i.authority.pem
	if i.Space, err = NewSpace(); err != nil {
		return nil, fmt.Errorf("making a network namespace: %w", err)
	}
	addresses := []string{}
	for _, p := range places {
		addresses = append(addresses, p.addr+"/32")
		for _, name := range p.names {
			i.zone[name] = append(i.zone[name], netip.MustParseAddr(p.addr))
		}
	}
	err = i.Do(func() error { return setUp("lo", addresses...) })
	if err == nil {
		err = errors.Join(i.serveWeb(), i.serveNames(), i.serveEchoes(), i.serveSSH())
	}
	if err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

// Connect gives a machine an uplink, which is its default route.
func (i *Internet) Connect(machine *Space) error {
	err := i.Do(func() error {
		err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: linkName}, PeerName: linkName, PeerNamespace: netlink.NsFd(machine.handle),
		})
		if err != nil {
			return fmt.Errorf("making the link to the internet: %w", err)
		}
		return setUp(linkName, RouterAddr+"/30")
	})
	if err != nil {
		return err
	}
	return machine.Do(func() error {
		if err := setUp(linkName, MachineAddr+"/30"); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(RouterAddr)})
	})
}

// Close ends all of it.
func (i *Internet) Close() error {
	var failed []error
	for _, c := range i.closers {
		failed = append(failed, c.Close())
	}
	i.all.Wait()
	return errors.Join(append(failed, i.Space.Close())...)
}

// Host is one more host, under a name, with a web server of its own on ports 80
// and 443.
func (i *Internet) Host(address, name string, handler http.Handler) error {
	i.SetName(name, address)
	i.mu.Lock()
	i.hosts[address] = handler
	i.mu.Unlock()
	return i.Do(func() error { return setUp("lo", address+"/32") })
}

// serveStream gives each connection to an address to somebody.
func (i *Internet) serveStream(network, address string, secure bool, handle func(net.Conn)) error {
	l, err := i.Listen(network, address)
	if err != nil {
		return err
	}
	if secure {
		l = tls.NewListener(l, i.authority.config())
	}
	i.closers = append(i.closers, l)
	i.all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	})
	return nil
}

package image

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// refusedAddressError is a host that is not on the internet and that the
// operator has not allowed.
type refusedAddressError struct {
	host    string
	address netip.Addr
}

func (e *refusedAddressError) Error() string {
	return fmt.Sprintf("%s is at %s, which is not on the internet", e.host, e.address)
}

// Those that are no places on the internet, or stand for others: IANA's special
// purpose registries without the documentation networks, which lead nowhere.
var notInternet = func() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
		"::/96",          // unspecified, loopback, and IPv4 in an old form
		"64:ff9b::/96",   // IPv4 behind a translator
		"64:ff9b:1::/48", // the same, an operator's own
		"100::/64",       // discarded
		"2001::/32",      // Teredo: IPv4 inside
		"2002::/16",      // 6to4: IPv4 inside
		"fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}()

// onInternet tells whether an address is neither special nor this machine's own.
func onInternet(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	for _, p := range notInternet {
		if p.Contains(a) {
			return false
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, o := range own {
		if p, err := netip.ParsePrefix(o.String()); err == nil && p.Addr().Unmap() == a {
			return false
		}
	}
	return true
}

// dialer connects to hosts on the internet, and to those that the rules allow.
// It is asked for the address that is really connected to: a name that answers
// differently the second time gains nothing.
func dialer(rules *hostRules) func(ctx context.Context, network, address string) (net.Conn, error) {
	const timeout = 15 * time.Second
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{Timeout: timeout}
		if !rules.allowed(address) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			// Said at once, also where there is no way to ask for it.
			if literal, err := netip.ParseAddr(host); err == nil && !onInternet(literal) {
				return nil, &refusedAddressError{host: host, address: literal}
			}
			d.ControlContext = func(_ context.Context, _, to string, _ syscall.RawConn) error {
				at, err := netip.ParseAddrPort(to)
				if err != nil {
					return err
				}
				if !onInternet(at.Addr()) {
					return &refusedAddressError{host: host, address: at.Addr()}
				}
				return nil
			}
		}
		return d.DialContext(ctx, network, address)
	}
}

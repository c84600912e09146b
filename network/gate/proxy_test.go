package gate

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"cube"
)

// socks is a customer's SOCKS5 proxy (RFC 1928, RFC 1929): it says what it was
// asked for and connects to the world's server there.
func (w *world) socks(address, user, password string) chan string {
	asked := make(chan string, 10)
	w.serve(address, func(conn net.Conn) {
		head := make([]byte, 2)
		read := func(n int) []byte {
			b := make([]byte, n)
			if _, err := io.ReadFull(conn, b); err != nil {
				return make([]byte, n)
			}
			return b
		}
		_, _ = io.ReadFull(conn, head)
		methods := read(int(head[1]))
		if user != "" {
			if string(methods) != "\x00\x02" && string(methods) != "\x02" {
				_, _ = conn.Write([]byte{5, 0xff})
				return
			}
			_, _ = conn.Write([]byte{5, 2})
			name := string(read(int(read(2)[1])))
			word := string(read(int(read(1)[0])))
			if name != user || word != password {
				_, _ = conn.Write([]byte{1, 1})
				return
			}
			_, _ = conn.Write([]byte{1, 0})
		} else {
			_, _ = conn.Write([]byte{5, 0})
		}
		request := read(4)
		var host string
		switch request[3] {
		case 1:
			host = netip.AddrFrom4([4]byte(read(4))).String()
		case 3:
			host = string(read(int(read(1)[0])))
		}
		port := binary.BigEndian.Uint16(read(2))
		asked <- fmt.Sprintf("%s:%d", host, port)
		_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		echo("by proxy")(conn)
	})
	return asked
}

func TestEgressProxy(t *testing.T) {
	const proxyAt, innerProxy = "198.51.100.80:1080", "10.9.9.9:1080"
	with := func(address, user, password string, p cube.NetworkPolicy) cube.NetworkPolicy {
		p.EgressProxy = &cube.EgressProxy{Address: address, Username: user, Password: password}
		return p
	}
	open := cube.NetworkPolicy{}
	for name, c := range map[string]struct {
		policy cube.NetworkPolicy
		allow  string // a range of the operator's
		send   string
		want   string // of the proxy, "" for nothing
	}{
		"address":                   {with(proxyAt, "", "", open), "", "\x00x", good + ":443"},
		"credentials":               {with(proxyAt, "me", "secret", open), "", "\x00x", good + ":443"},
		"name decides":              {with(proxyAt, "me", "secret", only("good.example")), "", string(hello(t, "good.example")), "good.example:443"},
		"proxy by name":             {with("proxy.example:1080", "me", "secret", open), "", "\x00x", good + ":443"},
		"denied before":             {with(proxyAt, "me", "secret", only("other.example")), "", string(hello(t, "good.example")), ""},
		"name that is closed":       {with(proxyAt, "me", "secret", only("*")), "", string(hello(t, "rebound.example")), ""},
		"wrong password":            {with(proxyAt, "me", "wrong", open), "", "\x00x", ""},
		"closed proxy":              {with(innerProxy, "", "", open), "", "\x00x", ""},
		"closed proxy, by name":     {with("rebound.example:1080", "", "", open), "", "\x00x", ""},
		"closed proxy, allowed":     {with(innerProxy, "", "", open), "10.9.9.0/24", "\x00x", good + ":443"},
		"allowed one gets no names": {with(innerProxy, "", "", only("good.example")), "10.9.9.0/24", string(hello(t, "good.example")), good + ":443"},
		"no proxy there":            {with("198.51.100.81:1080", "", "", open), "", "\x00x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(config *Config) {
				if c.allow != "" {
					config.ProxyRanges = []netip.Prefix{netip.MustParsePrefix(c.allow)}
				}
			})
			w.dns.set("proxy.example", "198.51.100.80")
			user, password := "", ""
			if c.policy.EgressProxy.Username != "" {
				user, password = "me", "secret"
			}
			asked := w.socks(proxyAt, user, password)
			inner := w.socks(innerProxy, "", "")
			w.socks(private+":1080", "", "")
			w.serve(good+":443", echo("directly"))
			w.set(guestA, c.policy)
			conn := w.dial(guestA, good+":443")
			_, _ = io.WriteString(conn, c.send)
			if c.want == "" {
				gone(t, conn)
				return
			}
			line := make([]byte, len("by proxy\n"))
			if _, err := io.ReadFull(conn, line); err != nil || string(line) != "by proxy\n" {
				t.Fatalf("got %q (%v)", line, err)
			}
			select {
			case got := <-asked:
				if got != c.want {
					t.Errorf("the proxy was asked for %s", got)
				}
			case got := <-inner:
				if got != c.want || c.allow == "" {
					t.Errorf("the inner proxy was asked for %s", got)
				}
			}
		})
	}
}

func TestAnotherProxyEndsConnections(t *testing.T) {
	w := newWorld(t)
	w.serve(good+":443", echo(good))
	w.set(guestA, cube.NetworkPolicy{})
	conn := connected(t, w, guestA, good+":443", "\x00x")
	w.set(guestA, cube.NetworkPolicy{EgressProxy: &cube.EgressProxy{Address: "198.51.100.80:1080"}})
	gone(t, conn)
}

package gate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cube"
)

// The tests' internet: documentation addresses, each of them a server on
// loopback that says where it is.
const (
	good    = "203.0.113.1" // good.example, www.good.example
	bad     = "203.0.113.66"
	other   = "198.51.100.7"
	private = "10.0.0.5" // a server that must never be reached
	guestA  = "127.0.101.1"
	guestB  = "127.0.101.2"
	patient = 30 * time.Second
)

// world is a gate with an internet behind it.
type world struct {
	t    testing.TB
	gate *Gate
	dns  *nameServer
	root []byte // of the servers' authority, PEM

	mu      sync.Mutex
	at      map[netip.AddrPort]netip.AddrPort // where a server really is
	targets map[string]netip.AddrPort         // by the client's address
	told    *sync.Cond
	events  []Event
	leaf    func(name string) *tls.Certificate
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, at: map[netip.AddrPort]netip.AddrPort{}, targets: map[string]netip.AddrPort{}}
	w.told = sync.NewCond(&w.mu)
	w.makeAuthority()
	w.dns = newNameServer(t, map[string]string{
		"good.example": good, "www.good.example": good, "bad.example": bad, "other.example": other,
		"rebound.example": private, "mixed.example": private + " " + good,
	})
	config := Config{
		Listen:    netip.MustParseAddr("127.0.0.1"),
		Upstreams: []netip.AddrPort{w.dns.addr},
		Roots:     w.root,
		Observe: func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.events) < 1000 {
				w.events = append(w.events, e)
			}
			w.told.Broadcast()
		},
		opening: patient, silence: patient, // a machine may be slow
		original: w.original,
		local:    func(netip.Addr) bool { return false },
		reach: func(to netip.AddrPort) netip.AddrPort {
			w.mu.Lock()
			defer w.mu.Unlock()
			if at, ok := w.at[to]; ok {
				return at
			}
			return netip.MustParseAddrPort("127.0.0.1:1") // nobody
		},
	}
	for _, c := range change {
		c(&config)
	}
	var err error
	if w.gate, err = New(config); err != nil {
		t.Fatal(err)
	}
	w.gate.resolver.headStart, w.gate.resolver.patience = patient, patient
	t.Cleanup(func() { _ = w.gate.Close() })
	return w
}

// original is told by dial, a moment after the connection.
func (w *world) original(conn *net.TCPConn) (netip.AddrPort, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if target, ok := w.targets[conn.RemoteAddr().String()]; ok {
			return target, nil
		}
		w.told.Wait()
	}
}

// set gives a guest a policy.
func (w *world) set(guest string, p cube.NetworkPolicy) {
	w.t.Helper()
	authority, err := NewAuthority("i00000000000000000000")
	if err != nil {
		w.t.Fatal(err)
	}
	id := cube.SandboxID("i" + strings.ReplaceAll(guest, ".", "x"))
	if err := w.gate.Set(netip.MustParseAddr(guest), Sandbox{ID: id, Internet: true, Policy: p, Authority: authority}); err != nil {
		w.t.Fatal(err)
	}
}

// only allows names and denies the rest.
func only(names ...string) cube.NetworkPolicy {
	return cube.NetworkPolicy{AllowOut: names, DenyOut: []string{"0.0.0.0/0"}}
}

// dial connects from a guest to where it thinks it goes.
func (w *world) dial(guest, target string) net.Conn {
	w.t.Helper()
	conn := connect(w.t, guest, fmt.Sprintf("127.0.0.1:%d", w.gate.Port()))
	w.mu.Lock()
	w.targets[conn.LocalAddr().String()] = netip.MustParseAddrPort(target)
	w.told.Broadcast()
	w.mu.Unlock()
	return conn
}

// connect connects from an address. A connection that is refused may be so before
// this could see it stand: it is one that has ended.
func connect(t testing.TB, from, to string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patient}
	conn, err := dialer.Dial("tcp", to)
	if errors.Is(err, syscall.ECONNRESET) {
		refused, end := net.Pipe()
		_ = end.Close()
		return refused
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patient))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// serve puts a server at an address.
func (w *world) serve(address string, handle func(net.Conn)) {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.place(address, listener.Addr())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	w.t.Cleanup(func() { _ = listener.Close() })
}

func addrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

func (w *world) place(address string, at net.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at[netip.MustParseAddrPort(address)] = netip.MustParseAddrPort(at.String())
}

// serveHTTP puts an HTTP server at an address, with TLS if it is for a name.
func (w *world) serveHTTP(address, name string, handler http.Handler) {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.place(address, listener.Addr())
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	if name == "" {
		go server.Serve(listener)
	} else {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*w.leaf(name)}, NextProtos: []string{"h2", "http/1.1"}}
		go server.ServeTLS(listener, "", "")
	}
	w.t.Cleanup(func() { _ = server.Close() })
}

// echo says where it is, and then what it is told.
func echo(where string) func(net.Conn) {
	return func(conn net.Conn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(conn, first); err != nil {
			return
		}
		_, _ = conn.Write([]byte(where + "\n"))
		_, _ = conn.Write(first)
		_, _ = io.Copy(conn, conn)
	}
}

// where is an HTTP handler that says where it is and what it was asked.
func where(here string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %s", here, r.Host, r.Header.Get("X-Secret"), r.Proto)
	})
}

// wait waits for an event.
func (w *world) wait(wanted func(Event) bool) Event {
	w.t.Helper()
	stop := time.AfterFunc(patient, w.told.Broadcast)
	defer stop.Stop()
	start := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if i := slices.IndexFunc(w.events, wanted); i >= 0 {
			return w.events[i]
		}
		if time.Since(start) > patient {
			w.t.Fatalf("the event never came; there are %+v", w.events)
		}
		w.told.Wait()
	}
}

// gone waits for the end of a connection, and wants no byte before it.
func gone(t testing.TB, conn net.Conn) {
	t.Helper()
	data, err := io.ReadAll(conn)
	if len(data) > 0 {
		t.Fatalf("%q came", data)
	}
	if isTimeout(err) {
		t.Fatal("the connection is open still")
	}
}

func (w *world) makeAuthority() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	root := &x509.Certificate{
		Subject: pkix.Name{CommonName: "the internet"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.root = encode(der)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	a := &authority{root: parsed, key: key, leaves: map[string]*tls.Certificate{}}
	w.leaf = func(name string) *tls.Certificate {
		leaf, err := a.leaf(name)
		if err != nil {
			w.t.Fatal(err)
		}
		return leaf
	}
}

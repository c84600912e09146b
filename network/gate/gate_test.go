package gate

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cube"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connected has a sandbox talk to a server and returns its connection.
func connected(t *testing.T, w *world, guest, target, first string) net.Conn {
	t.Helper()
	conn := w.dial(guest, target)
	if _, err := io.WriteString(conn, first); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(reader, make([]byte, len(first))); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestOnlySandboxesAreServed(t *testing.T) {
	w := newWorld(t)
	w.serve(good+":443", echo(good))
	w.set(guestA, cube.NetworkPolicy{})
	conn := w.dial(guestB, good+":443")
	_, _ = io.WriteString(conn, "\x00x")
	gone(t, conn)
}

func TestTheGatesOwnPort(t *testing.T) {
	w := newWorld(t)
	w.set(guestA, cube.NetworkPolicy{})
	conn := w.dial(guestA, fmt.Sprintf("127.0.0.1:%d", w.gate.Port()))
	gone(t, conn)
	if e := w.wait(func(e Event) bool { return !e.Allowed }); e.Rule != ruleDirect {
		t.Errorf("observed %+v", e)
	}
}

func TestNoInternet(t *testing.T) {
	w := newWorld(t)
	w.serve(good+":443", echo(good))
	if err := w.gate.Set(netip.MustParseAddr(guestA), Sandbox{ID: "i1", Policy: cube.NetworkPolicy{AllowOut: []string{"*", good}}}); err != nil {
		t.Fatal(err)
	}
	conn := w.dial(guestA, good+":443")
	gone(t, conn)
}

// An address of this machine is closed, though it be on the internet: else the
// machine's own services were open to its sandboxes.
func TestTheMachineItself(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.local = func(a netip.Addr) bool { return a.String() == good } })
	w.serve(good+":443", echo(good))
	w.set(guestA, cube.NetworkPolicy{})
	conn := w.dial(guestA, good+":443")
	_, _ = io.WriteString(conn, "\x00x")
	gone(t, conn)
	if isLocal(netip.MustParseAddr("127.0.0.1")) != true {
		t.Error("loopback is not of this machine")
	}
}

func TestUpdateEndsWhatIsNoLongerAllowed(t *testing.T) {
	w := newWorld(t)
	w.serve(good+":443", echo(good))
	w.serve(other+":443", echo(other))
	w.set(guestA, only("good.example", "other.example"))
	w.set(guestB, only("good.example"))
	lost := connected(t, w, guestA, good+":443", string(hello(t, "good.example")))
	kept := connected(t, w, guestA, other+":443", string(hello(t, "other.example")))
	others := connected(t, w, guestB, good+":443", string(hello(t, "good.example")))
	w.set(guestA, only("other.example"))
	gone(t, lost)
	for _, conn := range []net.Conn{kept, others} {
		_, _ = io.WriteString(conn, "still")
		if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
			t.Errorf("a connection that is allowed has ended: %v", err)
		}
	}
	again := w.dial(guestA, good+":443")
	_, _ = again.Write(hello(t, "good.example"))
	gone(t, again)
}

// Until a new policy is in force everywhere nothing begins, and what it does not
// allow has ended; if it does not come into force, the old one goes on.
func TestNothingBeginsDuringAnUpdate(t *testing.T) {
	w := newWorld(t)
	w.serve(good+":443", echo(good))
	w.serve(other+":443", echo(other))
	for _, comes := range []bool{false, true} {
		w.set(guestA, only("good.example"))
		lost := connected(t, w, guestA, good+":443", string(hello(t, "good.example")))
		end, err := w.gate.Begin(netip.MustParseAddr(guestA), Sandbox{ID: cube.SandboxID("i" + strings.ReplaceAll(guestA, ".", "x")), Internet: true, Policy: only("other.example")})
		if err != nil {
			t.Fatal(err)
		}
		gone(t, lost)
		open, shut := other, good
		if !comes {
			open, shut = good, other
		}
		first, second := w.dial(guestA, open+":443"), w.dial(guestA, shut+":443")
		names := map[string]string{good: "good.example", other: "other.example"}
		_, _ = first.Write(hello(t, names[open]))
		_, _ = second.Write(hello(t, names[shut]))
		_ = first.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := first.Read(make([]byte, 1)); !isTimeout(err) {
			t.Errorf("a connection that began during an update: %v", err)
		}
		end(comes)
		_ = first.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := first.Read(make([]byte, 1)); err != nil {
			t.Errorf("a connection that waited for an update that comes (%v), and may go: %v", comes, err)
		}
		gone(t, second)
	}
}

func TestUpdateEndsRequests(t *testing.T) {
	w := newWorld(t)
	w.serveHTTP(good+":80", "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begun\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	w.set(guestA, only("good.example"))
	conn := w.dial(guestA, good+":80")
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body := bufio.NewReader(response.Body)
	if line, err := body.ReadString('\n'); err != nil || line != "begun\n" {
		t.Fatalf("got %q (%v)", line, err)
	}
	w.set(guestA, only("other.example"))
	if _, err := io.ReadAll(body); err == nil || isTimeout(err) {
		t.Errorf("the answer went on: %v", err)
	}
}

func TestRemoveEndsAll(t *testing.T) {
	w := newWorld(t)
	w.serve(good+":443", echo(good))
	w.set(guestA, cube.NetworkPolicy{})
	conn := connected(t, w, guestA, good+":443", "\x00hello")
	w.gate.Remove(netip.MustParseAddr(guestA))
	gone(t, conn)
	again := w.dial(guestA, good+":443")
	gone(t, again)
}

// A sandbox that gets the address of one that has just ended has nothing of it.
func TestAddressIsAnothers(t *testing.T) {
	w := newWorld(t)
	w.serve(good+":443", echo(good))
	w.set(guestA, cube.NetworkPolicy{})
	conn := connected(t, w, guestA, good+":443", "\x00hello")
	if err := w.gate.Set(netip.MustParseAddr(guestA), Sandbox{ID: "i2", Internet: true}); err != nil {
		t.Fatal(err)
	}
	gone(t, conn)
}

func TestConnectionLimit(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxConnections = 2 })
	w.serve(good+":443", echo(good))
	w.set(guestA, cube.NetworkPolicy{})
	w.set(guestB, cube.NetworkPolicy{})
	first := connected(t, w, guestA, good+":443", "\x00x")
	connected(t, w, guestA, good+":443", "\x00x")
	conn := w.dial(guestA, good+":443")
	gone(t, conn)
	connected(t, w, guestB, good+":443", "\x00x")
	_ = first.Close()
	w.wait(func(e Event) bool { return e.Ended })
}

func TestBadPolicyLeavesTheOldOne(t *testing.T) {
	w := newWorld(t)
	w.set(guestA, only("good.example"))
	for _, s := range []Sandbox{
		{ID: "ix", Internet: true, Policy: cube.NetworkPolicy{DenyOut: []string{"good.example"}}},
		{ID: "ix", Internet: true, Authority: []byte("nonsense")},
	} {
		err := w.gate.Set(netip.MustParseAddr(guestA), s)
		if err == nil || strings.Contains(err.Error(), "nonsense") {
			t.Errorf("answered %v", err)
		}
	}
}

func TestClosed(t *testing.T) {
	for address, want := range map[string]bool{
		"10.1.2.3": true, "192.168.0.1": true, "172.31.255.255": true, "172.32.0.1": false, "169.254.169.254": true,
		"127.0.0.1": true, "0.0.0.0": true, "100.64.0.1": true, "224.0.0.1": true, "255.255.255.255": true,
		"203.0.113.1": false, "8.8.8.8": false, "1.1.1.1": false,
		"::1": true, "::": true, "fe80::1": true, "fd00::1": true, "ff02::1": true, "2001:db8::1": false, "2606:4700::1": false,
		"::ffff:10.0.0.1": true, "::ffff:8.8.8.8": false, "64:ff9b::a00:1": true, "64:ff9b::808:808": false,
		"2002:a00:1::": true, "2002:808:808::": true, "64:ff9b:1::808:808": true, "fd00:ec2::254": true, "fec0::1": true, "5f00::1": true, "fe80::1%eth0": true, "::10.0.0.1": true, "2001::1": true,
	} {
		if got := Closed(netip.MustParseAddr(address)); got != want {
			t.Errorf("Closed(%s) is %v", address, got)
		}
	}
	if !Closed(netip.Addr{}) {
		t.Error("no address is open")
	}
}

// A policy that was written for one family does not open the other.
func TestDeniedInBothFamilies(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		deny, address string
		allowed       bool
	}{
		{"0.0.0.0/0", "2001:db8::1", false},
		{"0.0.0.0/0", good, false},
		{"203.0.113.0/24", "2001:db8::1", true},
		{"203.0.113.0/24", "64:ff9b::203.0.113.1", false},
		{"203.0.113.0/24", "64:ff9b::198.51.100.7", true},
		{"2001:db8::/33", "2001:db8::1", false},
		{"2001:db8::/33", "2001:db8:8000::1", true},
		{"2001:db8::/33", good, true},
		{"::/0", "2001:db8::1", false},
		{"::/0", good, true},
	} {
		r, err := newRules(Sandbox{Internet: true, Policy: cube.NetworkPolicy{DenyOut: []string{row.deny}}})
		if err != nil {
			t.Fatal(err)
		}
		if v := w.gate.decide(r, netip.MustParseAddr(row.address), ""); v.allowed != row.allowed {
			t.Errorf("with %s denied, %s is allowed: %v", row.deny, row.address, v.allowed)
		}
	}
}

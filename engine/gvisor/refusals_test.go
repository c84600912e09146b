package gvisor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"cube"
	"cube/internal/testhost"
	"cube/network/gate"
)

// told is a gate that counts what it is told was refused.
func told(t *testing.T) (*gate.Gate, func(want string) int) {
	t.Helper()
	var mu sync.Mutex
	seen := map[string]int{}
	g, err := gate.New(gate.Config{Observe: func(e gate.Event) {
		mu.Lock()
		defer mu.Unlock()
		if !e.Allowed {
			seen[fmt.Sprintf("%s %s %d %s", e.Kind, e.Address, e.Port, e.Rule)]++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g, func(want string) int {
		mu.Lock()
		defer mu.Unlock()
		return seen[want]
	}
}

// try sends to an address, which may refuse it.
func (g *guest) try(network, address string, times int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := g.Dial(ctx, network, address)
	if err != nil {
		return
	}
	defer conn.Close()
	for range times {
		_, _ = conn.Write([]byte("x"))
	}
}

// What the firewall refuses is told, with where it was to go and the rule.
func TestRefusalsAreTold(t *testing.T) {
	g, seen := told(t)
	guest := newGuest(t, g, LinkLimits{Connections: 5}, true, cube.NetworkPolicy{DenyOut: []string{"203.0.113.0/24"}})
	guest.try("tcp", testhost.BadAddr+":8080", 0)
	guest.try("udp", testhost.BadAddr+":9", 1)
	guest.try("tcp", testhost.PrivateAddr, 0)
	guest.try("tcp", guest.host.String()+":49152", 0)
	var open []net.Conn
	for range 8 {
		if conn, err := guest.Dial(t.Context(), "tcp", testhost.InternetAddr); err == nil {
			open = append(open, conn)
		}
	}
	for _, conn := range open {
		_ = conn.Close()
	}
	if len(open) != 5 {
		t.Errorf("there are %d connections of 5", len(open))
	}
	for _, want := range []string{
		"tcp " + testhost.BadAddr + " 8080 203.0.113.0/24",
		"udp " + testhost.BadAddr + " 9 203.0.113.0/24",
		"tcp 10.99.99.1 80 closed",
		"tcp " + guest.host.String() + " 49152 closed",
		"tcp 192.0.2.1 80 limit",
	} {
		eventually(t, func() bool { return seen(want) > 0 })
	}
}

// Of one that tries and tries, so much is told and no more.
func TestAFloodIsNotTold(t *testing.T) {
	g, seen := told(t)
	guest := newGuest(t, g, LinkLimits{}, false, cube.NetworkPolicy{})
	const flood, last = 50_000, "udp 192.0.2.1 9 no internet"
	for range 10 {
		guest.try("udp", "192.0.2.1:9", flood/10)
	}
	eventually(t, func() bool { return seen(last) > 0 })
	if n := seen(last); n > flood/10 {
		t.Errorf("of %d packets %d are told", flood, n)
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(segment(connection{from: netip.MustParseAddrPort("192.0.2.1:1"), to: netip.MustParseAddrPort("203.0.113.1:2")}, 7))
	f.Add(segment(connection{from: netip.MustParseAddrPort("[2001:db8::1]:1"), to: netip.MustParseAddrPort("[2001:db8::2]:2")}, 7))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if from, to, _, ok := parsePacket(packet); ok && (!from.IsValid() || !to.IsValid()) {
			t.Errorf("of %x it reads %s and %s", packet, from, to)
		}
	})
}

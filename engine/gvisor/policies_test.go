package gvisor

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"cube"
	"cube/engine/gvisor/launch"
	"cube/internal/testhost"
	"cube/network/gate"
)

// openGated opens an engine with a gate, whose name servers and authorities are the
// tests' internet's.
func openGated(t testing.TB, dir string) *Engine {
	t.Helper()
	response, err := http.Get(testhost.RootURL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	roots, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	pool := netip.MustParsePrefix("10.213.0.0/16")
	g, err := gate.New(gate.Config{
		Upstreams: []netip.AddrPort{netip.MustParseAddrPort(testhost.NameServerAddr)}, Roots: roots, Closed: []netip.Prefix{pool},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	e, err := New(Config{DataDir: dir, Network: pool, Gate: g})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ask runs curl in a sandbox and returns what it says, "closed" for nothing.
func ask(t *testing.T, e *Engine, id cube.SandboxID, arguments string) string {
	t.Helper()
	out, err := shell(t.Context(), e, id, "curl -sSk --max-time 20 "+arguments+" 2>/dev/null || echo closed")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(out)
}

// Who may reach what, from inside real sandboxes: each policy is set on the same
// sandbox that had the one before.
func TestPolicies(t *testing.T) {
	dir := dataDir(t)
	e := openGated(t, dir)
	names := func(name string) cube.NetworkPolicy {
		return cube.NetworkPolicy{AllowOut: []string{name}, DenyOut: []string{"0.0.0.0/0"}}
	}
	at := func(addr, name string) string { return addr + " " + name }
	// It is closed before its first packet.
	id := started(t, e, func(r *cube.StartRequest) { r.Network = names(testhost.GoodName) })
	const good, other, bad = testhost.GoodAddr, testhost.OtherAddr, testhost.BadAddr
	forged := fmt.Sprintf("--resolve %s:443:%s --resolve %s:80:%s", testhost.GoodName, bad, testhost.GoodName, bad)
	for _, step := range []struct {
		what   string
		policy *cube.NetworkPolicy // nil for that of before
		closed bool
		ask    map[string]string
	}{
		{what: "from the start", ask: map[string]string{
			"https://good.example/who":                                       at(good, "good.example"),
			"http://good.example/who":                                        at(good, "good.example"),
			"https://bad.example/who":                                        "closed",
			"https://www.good.example/who":                                   "closed",
			"http://" + bad + "/who":                                         "closed",
			"https://" + good + "/who":                                       "closed",
			"http://" + testhost.InternetAddr:                                "closed",
			"http://10.99.99.1/who":                                          "closed",
			forged + " https://good.example/who":                             at(good, "good.example"), // a lying /etc/hosts
			forged + " http://good.example/who":                              at(good, "good.example"),
			"--resolve good.example:443:10.99.99.1 https://good.example/who": "closed",
			"-H 'Host: good.example' http://" + bad + "/who":                 at(good, "good.example"),
		}},
		{what: "a wildcard", policy: new(names("*.good.example")), ask: map[string]string{
			"https://www.good.example/who": at(good, "www.good.example"),
			"https://good.example/who":     "closed",
		}},
		{what: "all names", policy: new(names("*")), ask: map[string]string{
			"https://bad.example/who":     at(bad, "bad.example"),
			"https://rebound.example/who": "closed",
			"https://" + bad + "/who":     "closed",
		}},
		{what: "addresses", policy: &cube.NetworkPolicy{AllowOut: []string{good, "203.0.113.64/26"}, DenyOut: []string{"0.0.0.0/0"}}, ask: map[string]string{
			"http://" + good + "/who":  at(good, good),
			"http://" + bad + "/who":   at(bad, bad),
			"http://" + other + "/who": "closed",
		}},
		{what: "one range denied", policy: &cube.NetworkPolicy{AllowOut: []string{bad}, DenyOut: []string{"203.0.113.0/24"}}, ask: map[string]string{
			"http://" + good + "/who":     "closed",
			"http://" + bad + "/who":      at(bad, bad),
			"http://192.0.2.1/who":        at("192.0.2.1", "192.0.2.1"),
			"http://10.99.99.1/who":       "closed",
			"https://rebound.example/who": "closed",
			"http://169.254.53.53:80/":    "closed",
		}},
		{what: "no internet", policy: &cube.NetworkPolicy{AllowOut: []string{"*", good}}, closed: true, ask: map[string]string{
			"http://" + good + "/who":  "closed",
			"https://good.example/who": "closed",
		}},
		{what: "all of it", policy: &cube.NetworkPolicy{}, ask: map[string]string{
			"https://good.example/who": at(good, "good.example"),
			"http://" + bad + "/who":   at(bad, bad),
			"http://10.99.99.1/who":    "closed",
		}},
	} {
		if step.policy != nil {
			if err := e.SetNetwork(t.Context(), id, !step.closed, *step.policy); err != nil {
				t.Fatal(err)
			}
		}
		for question, want := range step.ask {
			if got := ask(t, e, id, question); got != want {
				t.Errorf("%s: %s answers %q, want %q", step.what, question, got, want)
			}
		}
	}
	if err := e.SetNetwork(t.Context(), cube.NewSandboxID(), true, cube.NetworkPolicy{}); cube.KindOf(err) != cube.NotFound {
		t.Errorf("of no sandbox it is answered %v", err)
	}
	if err := e.SetNetwork(t.Context(), id, true, cube.NetworkPolicy{DenyOut: []string{"nonsense"}}); cube.KindOf(err) != cube.Invalid {
		t.Errorf("of no policy it is answered %v", err)
	}
	if got := ask(t, e, id, "http://"+bad+"/who"); got != at(bad, bad) {
		t.Errorf("after a policy that is none there is %q", got)
	}
}

// A policy is there again with the next server, before anybody asks for it.
func TestPoliciesOutliveTheServer(t *testing.T) {
	dir := dataDir(t)
	e := openGated(t, dir)
	id := started(t, e, func(r *cube.StartRequest) {
		r.Network = cube.NetworkPolicy{AllowOut: []string{testhost.GoodName}, DenyOut: []string{"0.0.0.0/0"}}
	})
	successor := openGated(t, dir)
	for question, want := range map[string]string{
		"https://good.example/who":              testhost.GoodAddr + " good.example",
		"https://bad.example/who":               "closed",
		"http://" + testhost.OtherAddr + "/who": "closed",
	} {
		if got := ask(t, successor, id, question); got != want {
			t.Errorf("%s answers %q, want %q", question, got, want)
		}
	}
}

// Names are looked up inside as anywhere, and no question gets past the rules.
func TestNamesInside(t *testing.T) {
	e := openGated(t, dataDir(t))
	id := started(t, e, func(r *cube.StartRequest) {
		r.Network = cube.NetworkPolicy{AllowOut: []string{testhost.GoodName, testhost.PrivateName}, DenyOut: []string{"0.0.0.0/0"}}
	})
	for name, want := range map[string]string{
		testhost.GoodName: testhost.GoodAddr, testhost.BadName: "closed", testhost.PrivateName: "closed", "nowhere.example": "closed",
	} {
		out, err := shell(t.Context(), e, id, fmt.Sprintf(
			`python3 -c 'import socket; print(socket.gethostbyname("%s"))' 2>/dev/null || echo closed`, name))
		if err != nil || strings.TrimSpace(out) != want {
			t.Errorf("%s is at %q (%v), want %s", name, out, err, want)
		}
	}
	// A name server of the sandbox's own choice is an address like any other.
	out, err := shell(t.Context(), e, id, fmt.Sprintf(`python3 - <<'END'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
try:
    s.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\4good\7example\0\0\1\0\1", ("%s", 53))
    print(len(s.recv(512)))
except OSError:
    print("closed")
END`, strings.TrimSuffix(testhost.NameServerAddr, ":53")))
	if err != nil || strings.TrimSpace(out) != "closed" {
		t.Errorf("a foreign name server answers %q (%v)", out, err)
	}
}

// What a sandbox tries at the gate itself, or in another's name, leads nowhere.
func TestNoWayAroundTheGate(t *testing.T) {
	e := openGated(t, dataDir(t))
	id := started(t, e, func(r *cube.StartRequest) {
		r.Network = cube.NetworkPolicy{AllowOut: []string{testhost.GoodName}, DenyOut: []string{"0.0.0.0/0"}}
	})
	open := started(t, e)
	link := func(id cube.SandboxID) launch.Network {
		r, _ := e.lookup(id)
		return e.network.describe(r.Link)
	}
	host, neighbour := link(id).Host.Addr(), link(open).Guest.Addr()
	for what, arguments := range map[string]string{
		"the gate's port":                  fmt.Sprintf("--max-time 1 -H 'Host: good.example' http://%s:%d/who", host, e.cfg.Gate.Port()),
		"the resolver's port":              fmt.Sprintf("--max-time 1 http://%s:%d/", host, e.cfg.Gate.NamePort()),
		"a name server by TCP":             "--max-time 1 telnet://" + testhost.NameServerAddr,
		"a neighbour":                      fmt.Sprintf("--max-time 1 http://%s:49983/", neighbour),
		"the name server's address, by 80": "--max-time 1 http://" + launch.NameServer + "/",
	} {
		if got := ask(t, e, id, arguments); got != "closed" {
			t.Errorf("%s answers %q", what, got)
		}
	}
	// In the name of a neighbour that may reach all.
	const spoof = `ip addr add %[1]s/32 dev eth0 2>/dev/null || ifconfig eth0:1 %[1]s 2>/dev/null
curl -sS --max-time 1 --interface %[1]s http://%[2]s/who 2>/dev/null || echo closed
python3 - <<'END'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
try:
    s.bind(("%[1]s", 0))
    s.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\3bad\7example\0\0\1\0\1", ("%[3]s", 53))
    print(len(s.recv(512)))
except OSError:
    print("closed")
END`
	out, err := shell(t.Context(), e, id, fmt.Sprintf(spoof, neighbour, testhost.BadAddr, launch.NameServer))
	if err != nil || strings.TrimSpace(out) != "closed\nclosed" {
		t.Errorf("in a neighbour's name there comes %q (%v)", out, err)
	}
	// The neighbour has lost nothing by it.
	if got := ask(t, e, open, "http://"+testhost.BadAddr+"/who"); got != testhost.BadAddr+" "+testhost.BadAddr {
		t.Errorf("the neighbour gets %q", got)
	}
}

// BenchmarkTraffic is what one connection of a real sandbox carries: without rules of
// its own, with ranges that the firewall looks at, and by a name, through the gate.
func BenchmarkTraffic(b *testing.B) {
	const bytes = 256 << 20
	e := openGated(b, dataDir(b))
	var ranges cube.NetworkPolicy
	for i := range 50 {
		ranges.DenyOut = append(ranges.DenyOut, fmt.Sprintf("198.51.100.%d/32", i))
	}
	for _, way := range []struct {
		name, host string
		policy     cube.NetworkPolicy
	}{
		{"none", "203.0.113.1", cube.NetworkPolicy{}},
		{"addresses", "203.0.113.1", ranges},
		{"names", "good.example", cube.NetworkPolicy{AllowOut: []string{"good.example"}, DenyOut: []string{cube.AllTraffic}}},
	} {
		b.Run(way.name, func(b *testing.B) {
			id := started(b, e, func(r *cube.StartRequest) { r.Network = way.policy })
			var took float64
			for b.Loop() {
				out, err := shell(b.Context(), e, id, fmt.Sprintf("curl -fsS -o /dev/null -w '%%{time_total}' 'http://%s/zeros?bytes=%d'", way.host, bytes))
				if err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				seconds, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
				if err != nil {
					b.Fatal(err)
				}
				took += seconds
			}
			b.ReportMetric(8*bytes*float64(b.N)/1e9/took, "Gbit/s")
		})
	}
}

// An update of one sandbox's rules, among many with as many.
func BenchmarkPolicyOfOneAmongMany(b *testing.B) {
	n, err := openNetwork(netip.MustParsePrefix("10.213.0.0/16"), netip.Prefix{}, "cubebench", nil, LinkLimits{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { n.close(); _ = removeRules("cubebench") })
	policy := func(turn int) (p cube.NetworkPolicy) {
		for i := range 50 {
			p.DenyOut = append(p.DenyOut, fmt.Sprintf("203.%d.%d.0/24", turn%200, 2*i))
		}
		return p
	}
	for link := range 1000 {
		if err := n.hold("i00000000000000000000", link, true, policy(link)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n.turn++
		if err := n.hold("i00000000000000000000", 500, true, policy(n.turn)); err != nil {
			b.Fatal(err)
		}
	}
}

// The rules of a new sandbox without any of its own.
func BenchmarkPolicyOfANewOne(b *testing.B) {
	n, err := openNetwork(netip.MustParsePrefix("10.213.0.0/16"), netip.Prefix{}, "cubebench", nil, LinkLimits{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { n.close(); _ = removeRules("cubebench") })
	link := 0
	for b.Loop() {
		link++
		if err := n.hold("i00000000000000000000", link%10_000, true, cube.NetworkPolicy{}); err != nil {
			b.Fatal(err)
		}
	}
}

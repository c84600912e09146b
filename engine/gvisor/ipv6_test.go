package gvisor

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cube"
	"cube/engine/gvisor/launch"
	"cube/internal/internet"
	"cube/internal/testhost"
	"cube/network/gate"
)

// open6 opens an engine whose sandboxes have IPv6, with a gate.
func open6(t *testing.T, dir string, change ...func(*Config)) *Engine {
	t.Helper()
	testhost.IPv6(t)
	cfg := Config{
		DataDir: dir, Network: netip.MustParsePrefix("10.213.0.0/16"), Network6: netip.MustParsePrefix("fd63:7562:6500::/64"),
		Log: slog.New(slog.DiscardHandler),
	}
	var err error
	cfg.Gate, err = gate.New(gate.Config{
		Listen6: netip.IPv6Unspecified(), Upstreams: []netip.AddrPort{netip.MustParseAddrPort(testhost.NameServerAddr)}, Roots: testhost.Internet().Root,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cfg.Gate.Close() })
	for _, c := range change {
		c(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func linkOf(t *testing.T, e *Engine, id cube.SandboxID) launch.Network {
	t.Helper()
	r, ok := e.lookup(id)
	if !ok {
		t.Fatalf("%s does not run", id)
	}
	return e.network.describe(r.Link)
}

// A sandbox reaches the internet by IPv6, and nothing that is closed. The tests'
// internet answers at all addresses, so what is not reached has been refused.
func TestIPv6(t *testing.T) {
	e := open6(t, dataDir(t))
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	service := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the host") })}
	go func() { _ = service.Serve(listener) }()
	t.Cleanup(func() { _ = service.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	a, b := started(t, e), started(t, e)
	if out, err := shell(t.Context(), e, b, `setsid python3 -m http.server --bind :: 8080 >/dev/null 2>&1 &
for i in $(seq 200); do curl -gs -o /dev/null http://[::1]:8080/ && exit 0; sleep 0.05; done; exit 1`); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := ask(t, e, a, "-g http://[2001:db8::1]/"); !strings.HasPrefix(got, "["+internet.Machine6Addr+"]:") {
		t.Errorf("the internet sees %q", got)
	}
	if got := ask(t, e, a, "-g http://[64:ff9b::203.0.113.1]/who"); !strings.HasPrefix(got, "64:ff9b::cb00:7101 ") {
		t.Errorf("a translator is reached as %q", got)
	}
	for _, address := range []string{
		"[fd00:ec2::254]:80", "[fd20:ce::254]:80", "[fc00::1]:80", "[fec0::1]:80", "[2002:a9fe:a9fe::1]:80", "[2002:808:808::1]:80",
		"[2001::1]:80", "[64:ff9b::169.254.169.254]:80", "[64:ff9b::10.99.99.1]:80", "[64:ff9b::127.0.0.1]:80", "[64:ff9b:1::1]:80",
		"[::10.99.99.1]:80", "[::ffff:10.99.99.1]:80", "[100::1]:80", "[5f00::1]:80",
		net.JoinHostPort(linkOf(t, e, a).Host6.Addr().String(), port),
		net.JoinHostPort(internet.Machine6Addr, port),
		net.JoinHostPort(linkOf(t, e, b).Guest6.Addr().String(), "8080"),
		net.JoinHostPort(linkOf(t, e, b).Host6.Addr().String(), port),
	} {
		if got := ask(t, e, a, "-g --connect-timeout 1 http://"+address+"/"); got != "closed" {
			t.Errorf("%s answers %q", address, got)
		}
	}
}

// probe tries what it is told from inside a sandbox, "udp ADDRESS PORT", "ping
// ADDRESS" or curl's arguments, and returns the answer, "closed" for none. What is
// wanted closed is not waited for as long.
func probe(t *testing.T, e *Engine, id cube.SandboxID, what, want string) string {
	t.Helper()
	word := strings.Fields(what)
	var send string
	switch word[0] {
	case "udp":
		send = fmt.Sprintf(`s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); send, to, want = b"hello", ("%s", %s), b"hello"`, word[1], word[2])
	case "ping":
		send = fmt.Sprintf(`s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6); send, to, want = b"\x80\0\0\0\0\0\0\1hello", ("%s", 0), b"hello"`, word[1])
	default:
		return ask(t, e, id, "-g "+what)
	}
	seconds := 30
	if want == "closed" {
		seconds = 1
	}
	out, err := shell(t.Context(), e, id, fmt.Sprintf(`python3 - <<'END'
import socket
try:
    %s
    s.settimeout(%d)
    s.connect(to)
    s.send(send)
    print("answers" if s.recv(512).endswith(want) else "nonsense")
except OSError:
    print("closed")
END`, send, seconds))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(out)
}

// Policies hold by IPv6 as by IPv4. Each is set on the same sandbox that had the
// one before.
func TestIPv6Policies(t *testing.T) {
	const good, bad = "2001:db8::1", "2001:db8::66"
	only := func(entries ...string) *cube.NetworkPolicy {
		return &cube.NetworkPolicy{AllowOut: entries, DenyOut: []string{"0.0.0.0/0"}}
	}
	e := open6(t, dataDir(t))
	id := started(t, e, func(r *cube.StartRequest) { r.Network = *only("six.example") })
	for _, step := range []struct {
		what   string
		policy *cube.NetworkPolicy // nil for that of before
		closed bool
		probe  map[string]string
	}{
		{what: "from the start", probe: map[string]string{
			"https://six.example/who":                                         good + " six.example",
			"http://six.example/who":                                          good + " six.example",
			"https://www.six.example/who":                                     "closed",
			"https://bad6.example/who":                                        "closed",
			"http://[" + bad + "]/who":                                        "closed",
			"https://[" + good + "]/who":                                      "closed",
			"--resolve six.example:443:[" + bad + "] https://six.example/who": good + " six.example", // a lying /etc/hosts
			"--resolve six.example:443:[fd00::1] https://six.example/who":     "closed",
			"-H 'Host: six.example' http://[" + bad + "]/who":                 good + " six.example",
			"https://rebound6.example/who":                                    "closed",
			"udp " + good + " 443":                                            "closed", // QUIC
			"udp " + good + " 7":                                              "closed",
			"ping " + good:                                                    "closed",
		}},
		{what: "all names", policy: only("*"), probe: map[string]string{
			"https://bad6.example/who":     bad + " bad6.example",
			"https://rebound6.example/who": "closed",
			"http://[" + bad + "]/who":     "closed",
		}},
		{what: "both families of a name", policy: only("dual.example"), probe: map[string]string{
			"-4 https://dual.example/who": testhost.GoodAddr + " dual.example",
			"-6 https://dual.example/who": good + " dual.example",
		}},
		{what: "addresses", policy: only(good, "2001:db8:1::/48"), probe: map[string]string{
			"http://[" + good + "]/who":   good + " [" + good + "]",
			"http://[2001:db8:1::5]/who":  "2001:db8:1::5 [2001:db8:1::5]",
			"http://[" + bad + "]/who":    "closed",
			"http://" + testhost.GoodAddr: "closed",
			"udp " + good + " 7":          "answers",
			"udp " + bad + " 7":           "closed",
			"ping " + good:                "answers",
			"ping " + bad:                 "closed",
		}},
		{what: "one range denied", policy: &cube.NetworkPolicy{AllowOut: []string{bad}, DenyOut: []string{"2001:db8::/64"}}, probe: map[string]string{
			"http://[" + good + "]/who":            "closed",
			"http://[" + bad + "]/who":             bad + " [" + bad + "]",
			"http://[2001:db8:1::5]/who":           "2001:db8:1::5 [2001:db8:1::5]",
			"http://" + testhost.GoodAddr + "/who": testhost.GoodAddr + " " + testhost.GoodAddr,
		}},
		{what: "all of IPv6 denied", policy: &cube.NetworkPolicy{DenyOut: []string{"::/0"}}, probe: map[string]string{
			"http://[" + good + "]/who":            "closed",
			"http://" + testhost.GoodAddr + "/who": testhost.GoodAddr + " " + testhost.GoodAddr,
		}},
		{what: "all traffic denied", policy: &cube.NetworkPolicy{DenyOut: []string{"0.0.0.0/0"}}, probe: map[string]string{
			"http://[" + good + "]/who": "closed",
			"udp " + good + " 7":        "closed",
		}},
		{what: "a range of IPv4 denied, behind a translator", policy: &cube.NetworkPolicy{DenyOut: []string{"203.0.113.0/24"}}, probe: map[string]string{
			"http://[64:ff9b::203.0.113.1]/who": "closed",
			"http://[64:ff9b::192.0.2.1]/":      "[" + internet.Machine6Addr + "]:",
		}},
		{what: "no internet", policy: &cube.NetworkPolicy{AllowOut: []string{"*", good}}, closed: true, probe: map[string]string{
			"http://[" + good + "]/who": "closed",
			"https://six.example/who":   "closed",
			"udp " + good + " 7":        "closed",
		}},
		{what: "all of it", policy: &cube.NetworkPolicy{}, probe: map[string]string{
			"https://six.example/who":  good + " six.example",
			"http://[" + bad + "]/who": bad + " [" + bad + "]",
			"http://[fd00::1]/who":     "closed",
			"udp " + good + " 443":     "answers",
			"ping " + good:             "answers",
			"udp fd00:ec2::254 7":      "closed",
			"ping fd00:ec2::254":       "closed",
		}},
	} {
		if step.policy != nil {
			if err := e.SetNetwork(t.Context(), id, !step.closed, *step.policy); err != nil {
				t.Fatal(err)
			}
		}
		for what, want := range step.probe {
			got := probe(t, e, id, what, want)
			if strings.HasSuffix(want, ":") && strings.HasPrefix(got, want) {
				continue // and a port
			}
			if got != want {
				t.Errorf("%s: %s answers %q, want %q", step.what, what, got, want)
			}
		}
	}
}

// A new policy ends connections by IPv6, silent ones too, and what a sandbox had
// open is forgotten with it.
func TestIPv6Ends(t *testing.T) {
	const good, bad = "2001:db8::1", "2001:db8::66"
	e := open6(t, dataDir(t))
	id := started(t, e)
	run := func(script string) string {
		t.Helper()
		out, err := shell(t.Context(), e, id, script)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(out)
	}
	run(fmt.Sprintf(talker, good+" "+bad))
	if err := e.SetNetwork(t.Context(), id, true, cube.NetworkPolicy{DenyOut: []string{bad}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return run("cat /tmp/ended") == bad })
	guest := linkOf(t, e, id).Guest6.Addr()
	if open, err := e.network.tracked.of(guest); err != nil || len(open) == 0 {
		t.Errorf("while it runs there is %v (%v)", open, err)
	}
	if err := e.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	e.network.awaitEnded()
	if open, err := e.network.tracked.of(guest); err != nil || len(open) != 0 {
		t.Errorf("after its end there is %v (%v)", open, err)
	}
}

// A snapshot goes on where there is IPv6, where there is none and where it is
// another network, whatever there was when it was made.
func TestIPv6OfSnapshots(t *testing.T) {
	const server, inside = "http://[2001:db8::1]/who", "2001:db8::1 [2001:db8::1]"
	dir := dataDir(t)
	none := func(c *Config) { c.Network6 = netip.Prefix{} }
	another := func(c *Config) { c.Network6 = netip.MustParsePrefix("fd63:7562:6501::/64") }
	addresses := func(e *Engine, id cube.SandboxID) string {
		out, err := shell(t.Context(), e, id, "ip -6 addr show dev eth0 scope global | grep -o 'fd63:[0-9a-f:]*' || echo none")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(out)
	}
	keep := func(e *Engine, as cube.SnapshotID) {
		id := started(t, e)
		if out, err := shell(t.Context(), e, id, "true"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := e.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: as, Memory: true}); err != nil {
			t.Fatal(err)
		}
		if err := e.Stop(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(e *Engine, from cube.SnapshotID, open bool) cube.SandboxID {
		t.Helper()
		id := started(t, e, func(r *cube.StartRequest) { r.Snapshot = from })
		want, address := "closed", "none"
		if open {
			want, address = inside, linkOf(t, e, id).Guest6.Addr().String()
		}
		if got := probe(t, e, id, server, want); got != want {
			t.Errorf("from a snapshot made %s it gets %q, want %q", from, got, want)
		}
		if got := addresses(e, id); got != address {
			t.Errorf("from a snapshot made %s it has the address %s, want %s", from, got, address)
		}
		if got := ask(t, e, id, "http://"+testhost.GoodAddr+"/who"); got != testhost.GoodAddr+" "+testhost.GoodAddr {
			t.Errorf("from a snapshot made %s it gets %q by IPv4", from, got)
		}
		return id
	}
	e := open6(t, dir)
	keep(e, "with")
	begin(e, "with", true)
	e = open6(t, dir, none)
	begin(e, "with", false)
	keep(e, "without")
	e = open6(t, dir, another)
	begin(e, "without", true)
	id := begin(e, "with", true)
	// One that runs keeps its address, which the next server does not know.
	if got := probe(t, open6(t, dir), id, "--connect-timeout 2 "+server, "closed"); got != "closed" {
		t.Errorf("with the next server it gets %q", got)
	}
}

func TestNetworksOfIPv6(t *testing.T) {
	for pool, good := range map[string]bool{
		"fd63:7562:6500::/64": true, "fd00::/8": true, "fc00::/7": true, "fd63:7562:6500::/112": true,
		"fd63:7562:6500::/113": false, // half of what IPv4 has room for
		"fd63:7562:6500::/127": false,
		"fd63:7562:6500::1/64": false, "2001:db8::/64": false, "fe80::/64": false, "f000::/4": false, "::/0": false,
		"10.214.0.0/16": false, "::ffff:10.214.0.0/112": false,
	} {
		if err := checkPool6(netip.MustParsePrefix(pool), 1<<14); (err == nil) != good {
			t.Errorf("of %s it is said: %v", pool, err)
		}
	}
}

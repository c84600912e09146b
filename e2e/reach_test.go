package e2e

import (
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"cube/internal/internet"
	"cube/internal/testhost"
)

//go:embed probe.py
var probeScript string

// unasked is a name that is closed to whoever may not ask for it: nobody is asked.
const unasked = testhost.OtherName

// prober is a sandbox that tries targets.
type prober struct {
	*server
	sandbox sandbox
}

func (s *server) prober(c sandbox) prober {
	s.t.Helper()
	if out, code := s.shell(c, "user", "echo "+base64.StdEncoding.EncodeToString([]byte(probeScript))+" | base64 -d > /tmp/probe.py"); code != 0 {
		s.t.Fatalf("writing the probe: %s", out)
	}
	return prober{s, c}
}

// try tries all targets at once. A target is "KIND WHERE", of probe.py; its answer
// is where it arrived, or "closed". Those that should answer are waited for.
func (p prober) try(want map[string]string) map[string]string {
	p.t.Helper()
	arguments := ""
	for target, answer := range want {
		arguments += fmt.Sprintf(" '%s %s'", map[bool]string{true: "quick", false: "patient"}[answer == "closed"], target)
	}
	out, code := p.shell(p.sandbox, "user", "python3 /tmp/probe.py"+arguments)
	var got map[string]string
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
		p.t.Fatalf("probing: status %d, %s", code, out)
	}
	return got
}

// want compares what is reached with what should be, here and by what came out:
// what is closed may not even have sent a packet.
func (p prober) want(what string, want map[string]string) {
	p.t.Helper()
	watch, err := testhost.Internet().Watch()
	if err != nil {
		p.t.Fatal(err)
	}
	defer watch.Close()
	asked := len(testhost.Internet().Asked())
	got := p.try(want)
	for _, target := range slices.Sorted(maps.Keys(want)) {
		if got[target] != want[target] {
			p.t.Errorf("%s: %s answers %q, want %q", what, target, got[target], want[target])
		}
	}
	for target, answer := range want {
		kind, where, _ := strings.Cut(target, " ")
		if answer != "closed" {
			continue
		}
		for _, q := range testhost.Internet().Asked()[asked:] {
			if kind == "name" && where == unasked && q.Name == where {
				p.t.Errorf("%s: the name server was asked for %s", what, where)
			}
		}
		host, port, err := net.SplitHostPort(where)
		if err != nil {
			continue
		}
		if left := watch.Find(func(packet internet.Packet) bool {
			return packet.Dst.String() == host && fmt.Sprint(packet.DstPort) == port && packet.Protocol == map[string]byte{"tcp": 6, "udp": 17}[kind]
		}); len(left) > 0 {
			p.t.Errorf("%s: %d packets left for %s", what, len(left), target)
		}
	}
}

// put replaces a sandbox's network policy.
func (s *server) put(c sandbox, network map[string]any) {
	s.t.Helper()
	if status, body := s.call("PUT", "/sandboxes/"+c.SandboxID+"/network", network, "X-API-Key", fullKey); status != http.StatusNoContent {
		s.t.Fatalf("setting the network: %d %s", status, body)
	}
}

// hostService is a server on the machine itself, on all of its addresses.
func hostService(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// Who may reach what, from inside a real sandbox: each target is reached by some
// policy and closed by another, or closed by all and reached by somebody else.
func TestWhoMayReachWhat(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3 to probe with")
	}
	s := startOnInternet(t)
	neighbour, c := s.create(), s.create()
	p, q := s.prober(c), s.prober(neighbour)
	const (
		good, other, bad = testhost.GoodAddr, testhost.OtherAddr, testhost.BadAddr
		google           = "203.0.113.110"
		closed           = "closed"
	)
	service := hostService(t)
	if conn, err := testhost.Internet().Dial(t.Context(), "tcp4", net.JoinHostPort(internet.MachineAddr, service)); err != nil {
		t.Errorf("the machine's service does not answer the internet: %v", err)
	} else {
		_ = conn.Close()
	}
	self := q.try(map[string]string{"self -": ""})["self -"]
	link, neighbourAddr, _ := strings.Cut(self, " ")

	// No policy opens these.
	always := map[string]string{
		"tcp 10.99.99.1:7": closed, "udp 10.99.99.1:7": closed, "http rebound.example": closed, "https rebound.example": closed,
		"tcp 169.254.169.254:80": closed, "udp 169.254.169.254:7": closed, "http metadata.example": closed, "http 169.254.169.254": closed,
		"tcp 169.254.53.53:80": closed,
		"tcp " + net.JoinHostPort(internet.MachineAddr, service): closed, "tcp " + net.JoinHostPort(link, service): closed, "tcp 10.213.0.1:" + service: closed,
		"tcp " + neighbourAddr + ":49983": closed, "udp " + neighbourAddr + ":7": closed, "ping 10.99.99.1": closed, "ping " + neighbourAddr: closed,
	}
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(always)
		maps.Copy(all, more)
		return all
	}
	everything := with(map[string]string{
		"tcp " + good + ":7": good, "udp " + good + ":7": good, "ping " + good: good, "tcp " + bad + ":7": bad, "udp " + bad + ":7": bad,
		"https good.example": good, "http good.example": good, "https bad.example": bad, "https " + bad: bad, "name good.example": good,
		"udpname 8.8.8.8": good, "tcpname 8.8.8.8": good, "tlsname 8.8.8.8": good, "httpsname 8.8.8.8": good,
		"name rebound.example": closed, "name metadata.example": closed,
	})
	nothing := with(map[string]string{
		"tcp " + good + ":7": closed, "udp " + good + ":7": closed, "ping " + good: closed, "tcp " + bad + ":7": closed,
		"https good.example": closed, "http good.example": closed, "https " + bad: closed, "name good.example": closed, "name other.example": closed,
		"udpname 8.8.8.8": closed, "tcpname 8.8.8.8": closed, "tlsname 8.8.8.8": closed, "httpsname 8.8.8.8": closed,
	})
	all := []string{"0.0.0.0/0"}
	onlyName := map[string]string{
		"https good.example": good, "http good.example": good, "name good.example": good,
		"https www.good.example": closed, "https bad.example": closed, "name other.example": closed, "https " + good: closed, "http " + good: closed,
		"tcp " + good + ":7": closed, "udp " + good + ":7": closed, "ping " + good: closed, "udpname 8.8.8.8": closed, "tlsname 8.8.8.8": closed,
	}
	for _, row := range []struct {
		what   string
		policy map[string]any
		want   map[string]string
	}{
		{"nothing denied", map[string]any{}, everything},
		{"all denied", map[string]any{"denyOut": all}, nothing},
		{"no internet", map[string]any{"allow_internet_access": false}, nothing},
		{"all denied and all allowed", map[string]any{"allowOut": all, "denyOut": all}, everything},
		{"one address", map[string]any{"allowOut": []string{good}, "denyOut": all}, with(map[string]string{
			"tcp " + good + ":7": good, "udp " + good + ":7": good, "ping " + good: good, "https " + good: good, "http " + good: good,
			"tcp " + other + ":7": closed, "udp " + other + ":7": closed, "ping " + other: closed, "https " + other: closed, "name other.example": closed,
		})},
		{"a range", map[string]any{"allowOut": []string{"203.0.113.0/30"}, "denyOut": all}, map[string]string{
			"tcp " + good + ":7": good, "udp " + other + ":7": other, "ping " + other: other, "udp " + bad + ":7": closed, "tcp " + bad + ":7": closed, "ping " + bad: closed,
		}},
		{"a range denied", map[string]any{"denyOut": []string{"203.0.113.64/26"}}, map[string]string{
			"tcp " + good + ":7": good, "udp " + good + ":7": good, "https good.example": good, "https bad.example": closed, "http bad.example": closed,
			"tcp " + bad + ":7": closed, "udp " + bad + ":7": closed, "ping " + bad: closed, "name bad.example": closed, "udpname 8.8.8.8": good,
		}},
		{"allowed within what is denied", map[string]any{"allowOut": []string{bad}, "denyOut": []string{"203.0.113.64/26"}}, map[string]string{
			"tcp " + bad + ":7": bad, "udp " + bad + ":7": bad, "ping " + bad: bad, "https bad.example": bad,
			"tcp " + google + ":7": closed, "https google.com": closed, "tcp " + good + ":7": good,
		}},
		{"what is closed always, allowed", map[string]any{"allowOut": []string{"10.0.0.0/8", "169.254.0.0/16", internet.MachineAddr, "0.0.0.0/0"}}, always},
		{"names below one", map[string]any{"allowOut": []string{"*.google.com"}, "denyOut": all}, map[string]string{
			"https maps.google.com": google, "http www.google.com": google, "https google.com": closed, "https good.example": closed,
			"https " + google: closed, "name a.b.google.com": google, "name google.com": closed,
		}},
		{"all names", map[string]any{"allowOut": []string{"*"}, "denyOut": all}, with(map[string]string{
			"https bad.example": bad, "http good.example": good, "https " + bad: closed, "http " + bad: closed, "udp " + bad + ":7": closed, "ping " + bad: closed,
			"name bad.example": bad, "name rebound.example": closed, "udpname 8.8.8.8": closed, "httpsname 8.8.8.8": closed,
		})},
		{"a name and an address", map[string]any{"allowOut": []string{"good.example", other}, "denyOut": all}, map[string]string{
			"https good.example": good, "https " + other: other, "udp " + other + ":7": other, "tcp " + good + ":7": closed, "https bad.example": closed,
		}},
		{"one name", map[string]any{"allowOut": []string{"good.example"}, "denyOut": all}, with(onlyName)},
	} {
		s.put(c, row.policy)
		p.want(row.what, row.want)
	}
	q.want("the neighbour, of whom nothing was said", map[string]string{"tcp " + bad + ":7": bad, "https bad.example": bad, "udp " + good + ":7": good})

	fork := s.fork(c)
	s.prober(fork).want("a fork", onlyName)
	s.put(fork, map[string]any{})
	s.prober(fork).want("a fork with a policy of its own", map[string]string{"tcp " + bad + ":7": bad, "https bad.example": bad})
	p.want("whose fork has another policy", onlyName)
	s.pause(c.SandboxID)
	if status, body := s.call("POST", "/v2/sandboxes/"+c.SandboxID+"/connect", map[string]any{"timeout": 600}, "X-API-Key", fullKey); status != http.StatusCreated {
		t.Fatalf("resuming: %d %s", status, body)
	}
	p.want("after a pause", onlyName)
}

// fork forks a sandbox once.
func (s *server) fork(c sandbox) sandbox {
	s.t.Helper()
	status, body := s.call("POST", "/sandboxes/"+c.SandboxID+"/fork", map[string]any{"count": 1, "timeout": 600}, "X-API-Key", fullKey)
	var forks []struct{ Sandbox sandbox }
	if err := json.Unmarshal(body, &forks); status != http.StatusCreated || err != nil || len(forks) != 1 {
		s.t.Fatalf("forking: %d %s", status, body)
	}
	return forks[0].Sandbox
}

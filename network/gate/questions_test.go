package gate

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"cube"
)

// addresses are those of an answer, as text.
func addresses(m *dnsmessage.Message) string {
	var all []string
	for _, record := range m.Answers {
		if addr, ok := addressOf(record); ok {
			all = append(all, addr.String())
		}
	}
	return strings.Join(all, " ")
}

func TestLookUp(t *testing.T) {
	open := cube.NetworkPolicy{}
	const ok, refused, missing = dnsmessage.RCodeSuccess, dnsmessage.RCodeRefused, dnsmessage.RCodeNameError
	for name, c := range map[string]struct {
		policy cube.NetworkPolicy
		name   string
		kind   dnsmessage.Type
		code   dnsmessage.RCode
		want   string
		asked  bool // whether the operator's name server heard of it
	}{
		"open":                        {open, "good.example", dnsmessage.TypeA, ok, good, true},
		"other letters":               {open, "GOOD.example", dnsmessage.TypeA, ok, good, true},
		"by another name":             {open, "alias.example", dnsmessage.TypeA, ok, good, true},
		"IPv6":                        {open, "six.example", dnsmessage.TypeAAAA, ok, "2001:db8::1", true},
		"no address of that kind":     {open, "good.example", dnsmessage.TypeAAAA, ok, "", true},
		"missing":                     {open, "nowhere.example", dnsmessage.TypeA, missing, "", true},
		"closed address":              {open, "rebound.example", dnsmessage.TypeA, refused, "", true},
		"closed address by name":      {open, "alias-private.example", dnsmessage.TypeA, refused, "", true},
		"closed address among others": {open, "mixed.example", dnsmessage.TypeA, ok, good, true},
		"closed IPv6 address":         {open, "mapped.example", dnsmessage.TypeAAAA, refused, "", true},
		"allowed name":                {only("good.example"), "good.example", dnsmessage.TypeA, ok, good, true},
		"name that is not allowed":    {only("good.example"), "bad.example", dnsmessage.TypeA, refused, "", false},
		"data in a name":              {only("good.example"), "c2VjcmV0.bad.example", dnsmessage.TypeTXT, refused, "", false},
		"below an allowed name":       {only("good.example"), "secret.good.example", dnsmessage.TypeA, refused, "", false},
		"wildcard":                    {only("*.good.example"), "www.good.example", dnsmessage.TypeA, ok, good, true},
		"all names":                   {only("*"), "bad.example", dnsmessage.TypeA, ok, bad, true},
		"all names, closed address":   {only("*"), "rebound.example", dnsmessage.TypeA, refused, "", true},
		"denied address":              {cube.NetworkPolicy{DenyOut: []string{bad}}, "bad.example", dnsmessage.TypeA, refused, "", true},
		"other address":               {cube.NetworkPolicy{DenyOut: []string{bad}}, "good.example", dnsmessage.TypeA, ok, good, true},
		"all addresses":               {only("0.0.0.0/0"), "bad.example", dnsmessage.TypeA, ok, bad, true},
		"nothing but an address":      {only(good), "good.example", dnsmessage.TypeA, refused, "", false},
		"keys that hide names":        {open, "good.example", dnsmessage.TypeHTTPS, ok, "", false},
		"everything":                  {open, "good.example", dnsmessage.TypeALL, refused, "", false},
		"any bytes":                   {open, "good.example", 10, refused, "", false},
		"the operator's names":        {open, "db.internal", dnsmessage.TypeA, missing, "", false},
		"the operator's machines":     {open, "printer", dnsmessage.TypeA, missing, "", false},
		"who has a closed address":    {open, "5.0.0.10.in-addr.arpa", dnsmessage.TypePTR, missing, "", false},
		"a name that is none":         {open, "a b.example", dnsmessage.TypeA, refused, "", false},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(name+" by "+network, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.dns.set("db.internal", good)
				w.dns.set("printer", good)
				w.dns.set("six.example", "2001:db8::1")
				w.dns.set("mapped.example", "::ffff:10.0.0.1")
				w.dns.set("alias.example", "=good.example")
				w.dns.set("alias-private.example", "=rebound.example")
				w.set(guestA, c.policy)
				m := w.lookUp(guestA, network, c.name, c.kind)
				if m.RCode != c.code || addresses(m) != c.want || !m.Response || m.ID != 7 {
					t.Errorf("answered %v %q, want %v %q", m.RCode, addresses(m), c.code, c.want)
				}
				if asked := w.dns.count(strings.ToLower(c.name)) > 0; asked != c.asked {
					t.Errorf("the name server was asked: %v", asked)
				}
			})
		}
	}
}

func TestNoInternetNoNames(t *testing.T) {
	w := newWorld(t)
	if err := w.gate.Set(netip.MustParseAddr(guestA), Sandbox{ID: "i1"}); err != nil {
		t.Fatal(err)
	}
	if m := w.lookUp(guestA, "udp", "good.example", dnsmessage.TypeA); m.RCode != dnsmessage.RCodeRefused {
		t.Errorf("answered %v", m.RCode)
	}
	if e := w.wait(func(e Event) bool { return e.Kind == KindDNS }); e.Allowed || e.Name != "good.example" || e.Rule != ruleNone {
		t.Errorf("observed %+v", e)
	}
}

func TestAnswersAreRemembered(t *testing.T) {
	w := newWorld(t)
	w.set(guestA, cube.NetworkPolicy{})
	w.set(guestB, cube.NetworkPolicy{DenyOut: []string{good}})
	for range 3 {
		if m := w.lookUp(guestA, "udp", "good.example", dnsmessage.TypeA); addresses(m) != good {
			t.Fatalf("answered %q", addresses(m))
		}
	}
	if n := w.dns.count("good.example"); n != 1 {
		t.Errorf("the name server was asked %d times", n)
	}
	// What is remembered goes by the rules of who asks.
	if m := w.lookUp(guestB, "udp", "good.example", dnsmessage.TypeA); m.RCode != dnsmessage.RCodeRefused {
		t.Errorf("answered %v", m.RCode)
	}
}

// A name server that says something else the second time changes nothing for a
// connection: the gate goes where the name is now, if that is open.
func TestRebinding(t *testing.T) {
	w := newWorld(t)
	w.serve(private+":443", echo("the operator's"))
	w.dns.set("flips.example", private)
	w.set(guestA, only("flips.example"))
	conn := w.dial(guestA, good+":443")
	_, _ = conn.Write(hello(t, "flips.example"))
	gone(t, conn)
}

func TestNameServersThatDoNotAnswer(t *testing.T) {
	t.Run("silent", func(t *testing.T) {
		w := newWorld(t)
		w.dns.silence()
		w.gate.resolver.patience = 100 * time.Millisecond
		w.set(guestA, cube.NetworkPolicy{})
		if m := w.lookUp(guestA, "udp", "good.example", dnsmessage.TypeA); m.RCode != dnsmessage.RCodeServerFailure {
			t.Errorf("answered %v", m.RCode)
		}
		if e := w.wait(func(e Event) bool { return e.Kind == KindDNS }); e.Name != "good.example" {
			t.Errorf("observed %+v", e)
		}
	})
	t.Run("closed", func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Upstreams = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")} })
		w.set(guestA, cube.NetworkPolicy{})
		if m := w.lookUp(guestA, "udp", "good.example", dnsmessage.TypeA); m.RCode != dnsmessage.RCodeServerFailure {
			t.Errorf("answered %v", m.RCode)
		}
	})
	t.Run("short of room", func(t *testing.T) {
		w := newWorld(t)
		w.dns.serveTCP(t)
		w.set(guestA, cube.NetworkPolicy{})
		if m := w.lookUp(guestA, "udp", "good.example", dnsmessage.TypeA); addresses(m) != good {
			t.Errorf("answered %v %q", m.RCode, addresses(m))
		}
	})
	t.Run("the first of two", func(t *testing.T) {
		w := newWorld(t)
		w.gate.resolver.upstreams = func() []netip.AddrPort {
			return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), w.dns.addr}
		}
		w.set(guestA, cube.NetworkPolicy{})
		if m := w.lookUp(guestA, "udp", "good.example", dnsmessage.TypeA); addresses(m) != good {
			t.Errorf("answered %v %q", m.RCode, addresses(m))
		}
	})
}

// New names carry data out: there are so many a second.
func TestNewNamesAreLimited(t *testing.T) {
	w := newWorld(t)
	w.set(guestA, cube.NetworkPolicy{})
	limit := w.gate.find(&net.UDPAddr{IP: net.ParseIP(guestA)}).unknown
	limit.SetLimit(0)
	limit.SetBurst(2)
	for i, want := range []dnsmessage.RCode{dnsmessage.RCodeNameError, dnsmessage.RCodeNameError, dnsmessage.RCodeRefused} {
		if m := w.lookUp(guestA, "udp", fmt.Sprintf("data%d.evil.example", i), dnsmessage.TypeTXT); m.RCode != want {
			t.Errorf("question %d was answered %v", i, m.RCode)
		}
	}
	if m := w.lookUp(guestA, "udp", "data0.evil.example", dnsmessage.TypeTXT); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("a name that is known was answered %v", m.RCode)
	}
	w.set(guestB, cube.NetworkPolicy{})
	if m := w.lookUp(guestB, "udp", "good.example", dnsmessage.TypeA); addresses(m) != good {
		t.Errorf("another sandbox was answered %v", m.RCode)
	}
}

func TestLargeAnswers(t *testing.T) {
	w := newWorld(t)
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("203.0.113.%d", i+1))
	}
	w.dns.set("many.example", strings.Join(many, " "))
	w.set(guestA, cube.NetworkPolicy{})
	if m := w.lookUp(guestA, "udp", "many.example", dnsmessage.TypeA); !m.Truncated || len(m.Answers) != 0 {
		t.Errorf("by UDP there came %d, truncated: %v", len(m.Answers), m.Truncated)
	}
	if m := w.lookUp(guestA, "tcp", "many.example", dnsmessage.TypeA); len(m.Answers) != 60 {
		t.Errorf("by TCP there came %d", len(m.Answers))
	}
}

// Who is told why can tell a policy from a broken network.
func TestReasonOfARefusal(t *testing.T) {
	w := newWorld(t)
	w.set(guestA, only("good.example"))
	_, packed, err := packQuestion(question{"bad.example", dnsmessage.TypeA})
	if err != nil {
		t.Fatal(err)
	}
	if answer := w.exchange(guestA, "udp", packed); !strings.Contains(string(answer), "denied by the sandbox's network policy") {
		t.Errorf("answered %q", answer)
	}
}

func TestOnlySandboxesAreAnswered(t *testing.T) {
	w := newWorld(t)
	_, packed, err := packQuestion(question{"good.example", dnsmessage.TypeA})
	if err != nil {
		t.Fatal(err)
	}
	w.set(guestA, cube.NetworkPolicy{})
	conn, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(guestB)}}).Dial("udp", fmt.Sprintf("127.0.0.1:%d", w.gate.NamePort()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(packed); err != nil {
		t.Fatal(err)
	}
	w.exchange(guestA, "udp", packed) // packets are served in their order
	if n := w.dns.count("good.example"); n != 1 {
		t.Errorf("the name server was asked %d times", n)
	}
}

func TestForgedAnswersArePassedOver(t *testing.T) {
	q := question{"good.example", dnsmessage.TypeA}
	id, packed, err := packQuestion(q)
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(packed); err != nil {
		t.Fatal(err)
	}
	m.Additionals, m.Response = nil, true
	// An answer to this question that also speaks of another name.
	for _, name := range []string{"good.example.", "bank.example."} {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(bad).As4()},
		})
	}
	answer, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	read, err := parseAnswer(answer, id, q)
	if err != nil {
		t.Fatal(err)
	}
	if kept := keep(read, q); len(kept.records) != 1 {
		t.Errorf("kept %v", kept.records)
	}
	if _, err := parseAnswer(answer, id+1, q); err == nil {
		t.Error("an answer to another question was taken")
	}
	if _, err := parseAnswer(answer, id, question{"bank.example", dnsmessage.TypeA}); err == nil {
		t.Error("an answer about another name was taken")
	}
}

func TestReadUpstreams(t *testing.T) {
	got := readUpstreams(strings.NewReader("# a comment\nsearch example.com\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver nonsense\noptions ndots:5\n"))
	if fmt.Sprint(got) != "[192.0.2.53:53 [fe80::1%eth0]:53]" {
		t.Errorf("read %v", got)
	}
}

func FuzzQuestion(f *testing.F) {
	_, packed, _ := packQuestion(question{"good.example", dnsmessage.TypeA})
	f.Add(packed, true)
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, false)
	f.Fuzz(func(t *testing.T, data []byte, stream bool) {
		if q, code := parseAsked(data, stream); q != nil {
			if answer := q.pack(code, nil, nil, prohibited); len(answer) > q.size && !stream {
				t.Errorf("an answer of %d bytes to %d", len(answer), q.size)
			}
		}
	})
}

package gate

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cube"
)

// hello is a TLS client's first message for a name, and nothing after it.
func hello(t testing.TB, name string) []byte {
	t.Helper()
	var seen bytes.Buffer
	conn := tls.Client(record{to: &seen}, &tls.Config{ServerName: name, InsecureSkipVerify: name == ""})
	_ = conn.Handshake()
	return seen.Bytes()
}

type record struct {
	net.Conn
	to *bytes.Buffer
}

func (r record) Read([]byte) (int, error)    { return 0, io.EOF }
func (r record) Write(p []byte) (int, error) { return r.to.Write(p) }
func (r record) Close() error                { return nil }

// Who may reach what: each row is what a sandbox sends, to where, under which
// rules, and which server it then talks to; "" for none.
func TestReach(t *testing.T) {
	tlsHello := func(name string) string { return string(hello(t, name)) }
	// Two records, of which the first ends within the message: RFC 8446, 5.1.
	fragmented := func(name string) string {
		h := hello(t, name)
		body := h[5:]
		cut := 20
		out := append([]byte{h[0], h[1], h[2], 0, byte(cut)}, body[:cut]...)
		rest := body[cut:]
		out = append(out, h[0], h[1], h[2], byte(len(rest)>>8), byte(len(rest)))
		return string(append(out, rest...))
	}
	get := func(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	open := cube.NetworkPolicy{}
	good443, bad443 := good+":443", bad+":443"
	for name, c := range map[string]struct {
		policy cube.NetworkPolicy
		target string
		send   string
		want   string
	}{
		"allowed name":                         {only("good.example"), good443, tlsHello("good.example"), good},
		"allowed name in other letters":        {only("good.example"), good443, tlsHello("GOOD.Example"), good},
		"allowed name in pieces":               {only("good.example"), good443, fragmented("good.example"), good},
		"denied name":                          {only("good.example"), bad443, tlsHello("bad.example"), ""},
		"denied name in pieces":                {only("good.example"), bad443, fragmented("bad.example"), ""},
		"forged name goes where the name is":   {only("good.example"), bad443, tlsHello("good.example"), good},
		"name below an allowed one":            {only("good.example"), good443, tlsHello("www.good.example"), ""},
		"wildcard":                             {only("*.good.example"), good443, tlsHello("www.good.example"), good},
		"wildcard is not the name itself":      {only("*.good.example"), good443, tlsHello("good.example"), ""},
		"wildcard is not another's end":        {only("*.good.example"), bad443, tlsHello("evil-good.example"), ""},
		"all names":                            {only("*"), bad443, tlsHello("bad.example"), bad},
		"all names, none said":                 {only("*"), bad443, tlsHello(""), ""},
		"no name, address denied":              {only("good.example"), good443, tlsHello(""), ""},
		"no name, address allowed":             {only("good.example", good), good443, tlsHello(""), good},
		"other name, address allowed":          {only("good.example", "203.0.113.64/26"), bad443, tlsHello("bad.example"), bad},
		"an address as name":                   {only("*"), bad443, get(bad), ""},
		"name that leads to a closed address":  {only("rebound.example"), good443, tlsHello("rebound.example"), ""},
		"name that also leads to a closed one": {only("mixed.example"), bad443, tlsHello("mixed.example"), good},
		"name that is nowhere":                 {only("*"), good443, tlsHello("nowhere.example"), ""},
		"local name":                           {only("*"), good443, tlsHello("db.internal"), ""},
		"closed address, allowed name":         {only("good.example"), private + ":443", tlsHello("good.example"), ""},
		"closed address, open policy":          {open, private + ":443", tlsHello("good.example"), ""},
		"metadata service":                     {cube.NetworkPolicy{AllowOut: []string{"169.254.169.254"}}, "169.254.169.254:80", get("169.254.169.254"), ""},
		"open policy":                          {open, bad443, tlsHello("bad.example"), bad},
		"open policy, any bytes":               {open, bad443, "\x00\x01whatever", bad},
		"open policy, forged name":             {open, bad443, tlsHello("good.example"), bad},
		"denied address, open else":            {cube.NetworkPolicy{DenyOut: []string{bad}}, bad443, tlsHello("good.example"), ""},
		"denied range, open else":              {cube.NetworkPolicy{DenyOut: []string{"203.0.113.64/26"}}, good443, tlsHello("bad.example"), good},
		"allow beats deny":                     {cube.NetworkPolicy{AllowOut: []string{bad}, DenyOut: []string{"203.0.113.0/24"}}, bad443, "\x00x", bad},
		"bytes that are nothing":               {only("good.example"), good443, "\x00\x01good.example", ""},
		"TLS that is none":                     {only("good.example"), good443, "\x16\x03\x01\x00\x05good.example", ""},
		"HTTP by Host":                         {only("good.example"), good + ":80", get("good.example"), good},
		"HTTP by Host with port":               {only("good.example"), good + ":80", get("good.example:80"), good},
		"HTTP forged Host":                     {only("good.example"), bad + ":80", get("good.example"), good},
		"HTTP denied Host":                     {only("good.example"), good + ":80", get("bad.example"), ""},
		"HTTP on another port":                 {only("good.example"), good + ":8080", get("good.example"), good},
		"HTTP with another name in its line":   {only("good.example"), bad + ":80", "GET http://bad.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n", ""},
		"HTTP with the name in its line":       {only("good.example"), bad + ":80", "GET http://good.example/ HTTP/1.1\r\nHost: bad.example\r\n\r\n", good},
		"HTTP without Host":                    {only("good.example"), good + ":80", "GET / HTTP/1.0\r\n\r\n", ""},
		"HTTP with two Hosts":                  {only("good.example"), bad + ":80", "GET / HTTP/1.1\r\nHost: good.example\r\nHost: bad.example\r\n\r\n", "400"},
		"HTTP in strange ends":                 {only("good.example"), bad + ":80", "GET / HTTP/1.1\nHost: bad.example\n\n", ""},
		"HTTP/2 without TLS":                   {only("good.example"), good + ":80", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
		"CONNECT":                              {only("good.example"), good + ":80", "CONNECT good.example:22 HTTP/1.1\r\nHost: good.example\r\n\r\n", "405"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.dns.set("evil-good.example", bad)
			w.dns.set("db.internal", good)
			for _, at := range []string{good, bad} {
				w.serve(at+":443", echo(at))
				w.serveHTTP(at+":80", "", where(at))
				w.serveHTTP(at+":8080", "", where(at))
			}
			w.serve(private+":443", echo("the operator's"))
			w.serve("169.254.169.254:80", echo("the operator's"))
			w.set(guestA, c.policy)
			conn := w.dial(guestA, c.target)
			_, _ = conn.Write([]byte(c.send)) // it may be refused by then
			if c.want == "" {
				// A server that was reached would answer, and one that waits would too.
				if tcp, ok := conn.(*net.TCPConn); ok {
					_ = tcp.CloseWrite()
				}
				data, _ := io.ReadAll(conn)
				if len(data) != 0 {
					t.Errorf("there came %q", data)
				}
				return
			}
			reader := bufio.NewReader(conn)
			if strings.Contains(c.send, "HTTP/") {
				response, err := http.ReadResponse(reader, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				got, _, _ := strings.Cut(string(body), " ")
				if response.StatusCode != 200 {
					got = response.Status[:3]
				}
				if got != c.want {
					t.Errorf("answered %s %q, want %s", response.Status, body, c.want)
				}
				return
			}
			line, err := reader.ReadString('\n')
			if err != nil || strings.TrimSpace(line) != c.want {
				t.Fatalf("reached %q (%v), want %s", line, err, c.want)
			}
			back := make([]byte, len(c.send))
			if _, err := io.ReadFull(reader, back); err != nil || string(back) != c.send {
				t.Errorf("the server got %q (%v)", back, err)
			}
		})
	}
}

func TestEachRequestIsDecided(t *testing.T) {
	w := newWorld(t)
	w.serveHTTP(good+":80", "", where(good))
	w.serveHTTP(bad+":80", "", where(bad))
	w.serveHTTP(other+":80", "", where(other))
	w.set(guestA, only("good.example", "other.example"))
	conn := w.dial(guestA, good+":80")
	reader := bufio.NewReader(conn)
	ask := func(host string) (string, error) {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
			return "", err
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(response.Body)
		where, _, _ := strings.Cut(string(body), " ")
		return where, err
	}
	for host, want := range map[string]string{"good.example": good, "other.example": other} {
		if got, err := ask(host); err != nil || got != want {
			t.Fatalf("%s is at %q (%v), want %s", host, got, err, want)
		}
	}
	if got, err := ask("bad.example"); err == nil {
		t.Fatalf("the third request of a connection reached %q", got)
	}
	denied := w.wait(func(e Event) bool { return e.Name == "bad.example" })
	if denied.Allowed || denied.Rule != "0.0.0.0/0" {
		t.Errorf("observed %+v", denied)
	}
}

func TestPipelinedRequestsAreDecided(t *testing.T) {
	w := newWorld(t)
	w.serveHTTP(good+":80", "", where(good))
	w.serveHTTP(bad+":80", "", where(bad))
	w.set(guestA, only("good.example"))
	conn := w.dial(guestA, good+":80")
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: good.example\r\n\r\nGET / HTTP/1.1\r\nHost: bad.example\r\n\r\n")
	data, _ := io.ReadAll(conn)
	if !strings.Contains(string(data), good) || strings.Contains(string(data), bad) {
		t.Errorf("there came %q", data)
	}
}

// The body of one request must not become another one.
func TestNoRequestIsSmuggled(t *testing.T) {
	w := newWorld(t)
	seen := make(chan string, 10)
	w.serveHTTP(good+":80", "", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Host + r.URL.Path }))
	w.set(guestA, only("good.example"))
	conn := w.dial(guestA, good+":80")
	inner := "GET /smuggled HTTP/1.1\r\nHost: bad.example\r\n\r\n"
	_, _ = io.WriteString(conn, "POST /outer HTTP/1.1\r\nHost: good.example\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+inner)
	_, _ = io.ReadAll(conn)
	close(seen)
	for request := range seen {
		if !strings.HasPrefix(request, "good.example/") || strings.Contains(request, "smuggled") {
			t.Errorf("the server saw %s", request)
		}
	}
}

func TestServerSpeaksFirst(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.silence = 10 * time.Millisecond })
	w.serve(good+":22", func(conn net.Conn) {
		_, _ = io.WriteString(conn, "SSH-2.0-server\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
	w.set(guestA, cube.NetworkPolicy{})
	conn := w.dial(guestA, good+":22")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || line != "SSH-2.0-server\r\n" {
		t.Errorf("got %q (%v)", line, err)
	}
}

func TestHalfClose(t *testing.T) {
	w := newWorld(t)
	w.serve(good+":443", func(conn net.Conn) {
		data, _ := io.ReadAll(conn) // until the client has said all
		_, _ = conn.Write(bytes.ToUpper(data))
	})
	w.set(guestA, cube.NetworkPolicy{})
	conn := w.dial(guestA, good+":443")
	_, _ = io.WriteString(conn, "\x00all of it")
	_ = conn.(*net.TCPConn).CloseWrite()
	data, err := io.ReadAll(conn)
	if err != nil || string(data) != "\x00ALL OF IT" {
		t.Errorf("got %q (%v)", data, err)
	}
	end := w.wait(func(e Event) bool { return e.Ended })
	if end.Up != 10 || end.Down != 10 || end.Address.String() != good || end.Port != 443 {
		t.Errorf("observed %+v", end)
	}
}

func TestIdleConnectionEnds(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.IdleTimeout = 50 * time.Millisecond })
	w.serve(good+":443", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	w.set(guestA, cube.NetworkPolicy{})
	conn := w.dial(guestA, good+":443")
	_, _ = io.WriteString(conn, "\x00x")
	gone(t, conn)
}

func TestLongOpeningIsRefused(t *testing.T) {
	w := newWorld(t)
	w.set(guestA, only("good.example"))
	conn := w.dial(guestA, good+":443")
	go func() {
		record := append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 0x4000)...)
		record[5], record[6] = 1, 0x7f // a client's first message, of 8 MiB
		for range 8 {
			if _, err := conn.Write(record); err != nil {
				return
			}
		}
	}()
	gone(t, conn)
}

func FuzzSniff(f *testing.F) {
	f.Add(hello(f, "good.example"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		here, there := net.Pipe()
		if len(data) == 0 {
			return
		}
		go func() {
			_, _ = there.Write(data)
			_ = there.Close()
		}()
		said, err := sniff(here, patient, patient)
		_ = here.Close()
		if err == nil && !bytes.HasPrefix(data, said.bytes) {
			t.Errorf("of %q there was read %q", data, said.bytes)
		}
		if said.name != canonical(said.name) || len(said.bytes) > maxOpening {
			t.Errorf("the name is %q", said.name)
		}
		requestName(said.bytes)
	})
}

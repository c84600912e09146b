package gate

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"cube"
)

// withRule sets a header for a domain.
func withRule(domain string, headers map[string]string, p cube.NetworkPolicy) cube.NetworkPolicy {
	p.Rules = map[string]cube.NetworkRule{domain: {Headers: headers}}
	return p
}

// browser is an HTTP client inside the guest: it connects to target whatever the
// URL says, and trusts what the sandbox trusts.
func (w *world) browser(guest, target string, trusted []byte) *http.Client {
	w.t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusted)
	transport := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return w.dial(guest, target), nil },
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		ForceAttemptHTTP2: true,
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patient}
}

// setWithAuthority gives a guest a policy and returns what it trusts.
func (w *world) setWithAuthority(guest string, p cube.NetworkPolicy) []byte {
	w.t.Helper()
	authority, err := NewAuthority("i1")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.gate.Set(netip.MustParseAddr(guest), Sandbox{ID: "i1", Internet: true, Policy: p, Authority: authority}); err != nil {
		w.t.Fatal(err)
	}
	certificate, err := Certificate(authority)
	if err != nil {
		w.t.Fatal(err)
	}
	if strings.Contains(string(certificate), "KEY") {
		w.t.Fatal("the key goes into the sandbox")
	}
	return certificate
}

func get(t *testing.T, c *http.Client, url string, header ...string) (*http.Response, string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := c.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

func TestHeadersAreSet(t *testing.T) {
	w := newWorld(t)
	w.serveHTTP(good+":443", "good.example", where(good))
	w.serveHTTP(good+":80", "", where(good))
	w.serveHTTP(bad+":443", "bad.example", where(bad))
	trusted := w.setWithAuthority(guestA, withRule("good.example", map[string]string{"x-secret": "hunter2"}, cube.NetworkPolicy{}))
	// The address is the sandbox's choice, and makes no difference.
	for _, target := range []string{good, bad} {
		response, body, err := get(t, w.browser(guestA, target+":443", trusted), "https://good.example/", "X-Secret", "the sandbox's own")
		if err != nil || body != good+" good.example hunter2 HTTP/2.0" || response.ProtoMajor != 2 {
			t.Errorf("by TLS there came %q (%v)", body, err)
		}
	}
	_, body, err := get(t, w.browser(guestA, bad+":80", nil), "http://good.example/", "X-Secret", "the sandbox's own")
	if err != nil || body != good+" good.example hunter2 HTTP/1.1" {
		t.Errorf("in clear there came %q (%v)", body, err)
	}
	// What no rule names is not looked into: the server's own certificate arrives.
	client := w.browser(guestA, bad+":443", w.root)
	_, body, err = get(t, client, "https://bad.example/", "X-Secret", "own")
	if err != nil || body != bad+" bad.example own HTTP/2.0" {
		t.Errorf("without a rule there came %q (%v)", body, err)
	}
	client.CloseIdleConnections()
	if e := w.wait(func(e Event) bool { return e.Ended && e.Kind == KindTLS && e.Name == "bad.example" }); e.Down == 0 {
		t.Errorf("observed %+v", e)
	}
}

func TestSecretsGoNowhereElse(t *testing.T) {
	headers := map[string]string{"X-Secret": "hunter2"}
	policy := withRule("good.example", headers, cube.NetworkPolicy{})
	t.Run("a server that is another", func(t *testing.T) {
		w := newWorld(t)
		w.serveHTTP(good+":443", "bad.example", where(good))
		trusted := w.setWithAuthority(guestA, policy)
		response, body, err := get(t, w.browser(guestA, good+":443", trusted), "https://good.example/")
		if err != nil || response.StatusCode != http.StatusBadGateway || !strings.Contains(body, "certificate") {
			t.Errorf("answered %q (%v)", body, err)
		}
	})
	t.Run("another Host within the connection", func(t *testing.T) {
		w := newWorld(t)
		w.serveHTTP(good+":443", "good.example", where(good))
		w.serveHTTP(bad+":443", "bad.example", where(bad))
		trusted := w.setWithAuthority(guestA, policy)
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://good.example/", nil)
		r.Host = "bad.example"
		response, err := w.browser(guestA, good+":443", trusted).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("answered %s", response.Status)
		}
	})
	t.Run("a rule is no permission", func(t *testing.T) {
		w := newWorld(t)
		w.serveHTTP(good+":443", "good.example", where(good))
		trusted := w.setWithAuthority(guestA, withRule("good.example", headers, only("other.example")))
		if _, body, err := get(t, w.browser(guestA, good+":443", trusted), "https://good.example/"); err == nil {
			t.Errorf("answered %q", body)
		}
	})
	t.Run("a denied address of the name", func(t *testing.T) {
		w := newWorld(t)
		w.serveHTTP(good+":80", "", where(good))
		w.setWithAuthority(guestA, withRule("good.example", headers, cube.NetworkPolicy{DenyOut: []string{good}}))
		if _, body, err := get(t, w.browser(guestA, other+":80", nil), "http://good.example/"); err == nil {
			t.Errorf("answered %q", body)
		}
	})
	t.Run("another sandbox's authority", func(t *testing.T) {
		w := newWorld(t)
		w.serveHTTP(good+":443", "good.example", where(good))
		w.setWithAuthority(guestA, policy)
		trusted := w.setWithAuthority(guestB, policy)
		if _, body, err := get(t, w.browser(guestA, good+":443", trusted), "https://good.example/"); err == nil {
			t.Errorf("answered %q", body)
		}
	})
	t.Run("no authority", func(t *testing.T) {
		w := newWorld(t)
		w.serveHTTP(good+":443", "good.example", where(good))
		if err := w.gate.Set(netip.MustParseAddr(guestA), Sandbox{ID: "i1", Internet: true, Policy: policy}); err != nil {
			t.Fatal(err)
		}
		if _, body, err := get(t, w.browser(guestA, good+":443", w.root), "https://good.example/"); err == nil {
			t.Errorf("answered %q", body)
		}
	})
}

// What a rule does not speak of passes as it is.
func TestRequestsPassUnchanged(t *testing.T) {
	w := newWorld(t)
	w.serveHTTP(good+":443", "good.example", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
		w.Header().Set("Trailer", "X-End")
		fmt.Fprintf(w, "%s %s|%s|%s|%s|%s|%s", r.Method, r.RequestURI, body, r.Header.Get("X-Forwarded-For"), r.Header.Get("User-Agent"), r.Header.Get("Accept-Encoding"), r.Host)
		w.Header().Set("X-End", "over")
	}))
	trusted := w.setWithAuthority(guestA, withRule("*.example", map[string]string{"Host": "inner.example", "Content-Length": "3", "A": "b"}, cube.NetworkPolicy{}))
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://good.example/a%2Fb/../c?x=1;y=%zz", strings.NewReader("the body"))
	r.Header.Set("X-Forwarded-For", "192.0.2.9")
	r.Header.Set("User-Agent", "curl")
	r.Header.Set("Accept-Encoding", "identity")
	response, err := w.browser(guestA, good+":443", trusted).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if want := "POST /a%2Fb/../c?x=1;y=%zz|the body|192.0.2.9|curl|identity|inner.example"; string(body) != want {
		t.Errorf("the server saw %q, want %q", body, want)
	}
	if response.Trailer.Get("X-End") != "over" || response.Header["Date"] != nil || response.Header["Content-Type"] != nil {
		t.Errorf("there came %v %v", response.Header, response.Trailer)
	}
}

func TestStreamsPassARule(t *testing.T) {
	w := newWorld(t)
	w.serveHTTP(good+":443", "good.example", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lines := bufio.NewReader(r.Body)
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, strings.ToUpper(line))
			w.(http.Flusher).Flush()
		}
	}))
	trusted := w.setWithAuthority(guestA, withRule("good.example", map[string]string{"A": "b"}, cube.NetworkPolicy{}))
	from, to := io.Pipe()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://good.example/", from)
	response, err := w.browser(guestA, good+":443", trusted).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answers := bufio.NewReader(response.Body)
	for _, line := range []string{"one\n", "two\n"} {
		_, _ = io.WriteString(to, line)
		if got, err := answers.ReadString('\n'); err != nil || got != strings.ToUpper(line) {
			t.Fatalf("got %q (%v)", got, err)
		}
	}
	_ = to.Close()
	if rest, err := io.ReadAll(answers); err != nil || len(rest) != 0 {
		t.Errorf("got %q (%v)", rest, err)
	}
}

func TestUpgradePassesARule(t *testing.T) {
	w := newWorld(t)
	w.serveHTTP(good+":443", "good.example", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("X-Secret") != "hunter2" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		conn, buffered, _ := w.(http.Hijacker).Hijack()
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	}))
	trusted := w.setWithAuthority(guestA, withRule("good.example", map[string]string{"X-Secret": "hunter2"}, cube.NetworkPolicy{}))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusted)
	conn := tls.Client(w.dial(guestA, good+":443"), &tls.Config{RootCAs: pool, ServerName: "good.example"})
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answered %v (%v)", response, err)
	}
	_, _ = io.WriteString(conn, "frames")
	if _, err := io.ReadFull(reader, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	// It ends when it is no longer allowed.
	w.setWithAuthority(guestA, only("other.example"))
	if _, err := reader.ReadByte(); err == nil || isTimeout(err) {
		t.Errorf("it is open still: %v", err)
	}
}

// A new rule is for connections that stand, too: they end, and come again by it.
func TestNewRuleEndsConnections(t *testing.T) {
	w := newWorld(t)
	w.serve(good+":443", echo(good))
	w.set(guestA, cube.NetworkPolicy{})
	conn := connected(t, w, guestA, good+":443", string(hello(t, "good.example")))
	w.set(guestA, withRule("good.example", map[string]string{"A": "b"}, cube.NetworkPolicy{}))
	gone(t, conn)
}

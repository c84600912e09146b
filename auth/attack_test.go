package auth

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The rows are those of the authentication contract's list of attacks.

func TestP1PathsThatTwoReadersReadDifferently(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, Config{CallbackURL: o.URL})
	for _, path := range []string{
		"//sandboxes", "/sandboxes//x", "/templates/../health", "/templates/./x", "/templates/%2e%2e/health", "/templates/%2E/x",
		"/sandboxes/a%2fb", "/sandboxes/a%2Fb", "/sandboxes/a%5Cb", `/sandboxes/a\b`, "/sandboxes/%00", "/sandboxes/%0a", "/sandboxes/x;y=1",
		"/sandboxes/..;/health", "/sandboxes/%3bx", "/sandboxes/%23x", "/sandboxes/%3fx", "/sandboxes/%c3%a9", "/sandboxes/\xc3\xa9",
		"/sandboxes/", "/health/", "/sandboxes/%252e%252e/health", "/templates/a%2f%2e%2e%2fhealth", "/templates/a%2F", "/templates/%2Fa",
		"/sandboxes/%zz", "/" + strings.Repeat("a", 5000), "/sandboxes/x#frag", "/sandboxes/x\"y",
	} {
		resp := h.send(t, "GET "+path, "X-API-Key: key")
		if resp.StatusCode != 400 || resp.Header.Get("Location") != "" {
			t.Errorf("GET %q: %s, Location %q; want 400", path, resp.Status, resp.Header.Get("Location"))
		}
		if path == "/sandboxes/%zz" {
			continue // net/http refuses it before there is a request
		}
		if resp := h.send(t, "GET "+path); resp.StatusCode != 401 {
			t.Errorf("GET %q without a credential: %s, want 401", path, resp.Status)
		}
	}
	if q := o.questions(); len(q) != 0 {
		t.Errorf("the callback was asked about %q", q[0].Header.Get("X-Request-Path"))
	}
	open := newHouse(t, Config{})
	wantStatus(t, open.send(t, "GET /sandboxes//x"), 400)
}

func TestP1ATemplatesNameMayHoldASlash(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, Config{CallbackURL: o.URL})
	for _, path := range []string{"/templates/team%2Fname:tag", "/templates/aliases/team%2Fname"} {
		wantStatus(t, h.send(t, "GET "+path, "X-API-Key: key"), 200)
		if got := o.questions()[len(o.questions())-1].Header.Get("X-Request-Path"); got != path {
			t.Errorf("the callback judged %q, want %q", got, path)
		}
	}
}

func TestP2OnlyExactHealthIsFree(t *testing.T) {
	o := newOperator(t, status(401))
	h := newHouse(t, Config{CallbackURL: o.URL})
	for line, want := range map[string]int{
		"GET /health": 200, "HEAD /health": 200, "GET /health?x": 200,
		"POST /health": 401, "GET /health/": 401, "GET /healthz": 401, "GET /Health": 401, "GET //health": 401,
		"GET /%68ealth": 401, "OPTIONS /health": 401, "OPTIONS *": 401, "GET http://cube/health": 401, "GET http://cube/sandboxes": 401,
		"TRACE /health": 405, "CONNECT cube:80": 405, "CONNECT /health": 405,
	} {
		resp := h.raw(t, line+" HTTP/1.1\r\nHost: cube\r\n\r\n")
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", line, resp.Status, want)
		}
	}
}

func TestH1TheCallbackSeesOneTrueValueEach(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, Config{CallbackURL: o.URL})
	for _, header := range []string{
		"X-Request-Path: /health", "x-request-path: /health", "X_Request_Path: /health", "X.Request.Path: /health", "X-Request_Path: /health",
		"X-Request-Method: GET", "x_request_method: GET", "Connection: X-Request-Path, X-Request-Method, close",
	} {
		wantStatus(t, h.send(t, "DELETE /sandboxes/x", "X-API-Key: key", header, header), 200)
		q := o.questions()[len(o.questions())-1].Header
		if got := q.Values("X-Request-Path"); len(got) != 1 || got[0] != "/sandboxes/x" {
			t.Errorf("%s: the callback saw the paths %q", header, got)
		}
		if got := q.Values("X-Request-Method"); len(got) != 1 || got[0] != "DELETE" {
			t.Errorf("%s: the callback saw the methods %q", header, got)
		}
	}
}

func TestH2IdentityHeadersOfAClientGoNowhere(t *testing.T) {
	h := newHouse(t, Config{})
	for _, header := range []string{"X-Auth-Team: root", "x_auth_team: root", "X-User-Id: 1", "X.Team.Id: 1", "X-Auth-Subject: a"} {
		wantStatus(t, h.send(t, "GET /sandboxes", header), 200)
	}
	for _, r := range h.got {
		for name := range r.Header {
			if isTrustHeader(name) {
				t.Errorf("%s came through", name)
			}
		}
	}
}

func TestH3OverridesHaveNoInfluence(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, Config{CallbackURL: o.URL})
	for _, header := range []string{
		"X-HTTP-Method-Override: GET", "X-Method-Override: GET", "X-Original-URL: /health", "X-Rewrite-URL: /health",
		"X-Forwarded-Uri: /health", "X-Forwarded-Method: GET", "X-Forwarded-Prefix: /x", "Forwarded: host=x",
	} {
		resp := h.send(t, "DELETE /sandboxes/x", "X-API-Key: key", header)
		q := o.questions()[len(o.questions())-1].Header
		if resp.Header.Get("X-Ran") != "DELETE /sandboxes/{id}" || q.Get("X-Request-Path") != "/sandboxes/x" || q.Get("X-Request-Method") != "DELETE" {
			t.Errorf("%s: ran %q, judged %s %s", header, resp.Header.Get("X-Ran"), q.Get("X-Request-Method"), q.Get("X-Request-Path"))
		}
	}
}

func TestC1CredentialsThatTwoReadersReadDifferently(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, Config{CallbackURL: o.URL})
	for name, headers := range map[string][]string{
		"two tokens":          {"Authorization: Bearer a", "Authorization: Bearer b"},
		"a token twice":       {"Authorization: Bearer a", "Authorization: Bearer a"},
		"two keys":            {"X-API-Key: a", "X-API-Key: b"},
		"two keys and token":  {"Authorization: Bearer a", "X-API-Key: a", "X-API-Key: b"},
		"a tab before":        {"Authorization: Bearer\tabc"},
		"a tab within":        {"Authorization: Bearer a\tb"},
		"a blank within":      {"Authorization: Bearer a b"},
		"a blank in the key":  {"X-API-Key: a b"},
		"a comma's list":      {"Authorization: Bearer a, Bearer b"},
		"a byte over ASCII":   {"Authorization: Bearer caf\xe9"},
		"a byte in the key":   {"X-API-Key: \xff"},
		"9 KiB of token":      {"Authorization: Bearer " + strings.Repeat("a", 9<<10)},
		"9 KiB of key":        {"X-API-Key: " + strings.Repeat("a", 9<<10)},
		"a token and bad key": {"Authorization: Basic eDp5", "X-API-Key: a b"},
	} {
		if resp := h.send(t, "GET /sandboxes", headers...); resp.StatusCode != 401 {
			t.Errorf("%s: %s, want 401", name, resp.Status)
		}
	}
	if n := len(o.questions()); n != 0 {
		t.Errorf("the callback was asked %d times", n)
	}
}

func TestC1CredentialsThatAreFine(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, Config{CallbackURL: o.URL})
	for header, want := range map[string]string{
		"Authorization: bearer abc":                                   "Bearer abc",
		"Authorization: BEARER abc":                                   "Bearer abc",
		"authorization: Bearer  abc ":                                 "Bearer abc",
		"Authorization: Bearer " + strings.Repeat("a", maxCredential): "Bearer " + strings.Repeat("a", maxCredential),
	} {
		wantStatus(t, h.send(t, "GET /sandboxes", header), 200)
		if got := o.questions()[len(o.questions())-1].Header.Get("Authorization"); got != want {
			t.Errorf("%.40s: the callback got %.40q", header, got)
		}
	}
	wantStatus(t, h.send(t, "GET /sandboxes", "Authorization: Basic dXNlcjo=", "X-API-Key: key"), 200)
	if q := o.questions()[len(o.questions())-1].Header; q.Get("X-Api-Key") != "key" || q.Get("Authorization") != "" {
		t.Errorf("behind Basic the callback got %v", q)
	}
}

func TestK1RedirectsAreNotFollowed(t *testing.T) {
	second := newOperator(t, status(200))
	for _, code := range []int{301, 302, 303, 307, 308} {
		first := newOperator(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", second.URL)
			w.WriteHeader(code)
		})
		wantStatus(t, newHouse(t, Config{CallbackURL: first.URL}).send(t, "GET /sandboxes", "X-API-Key: key"), 401)
	}
	if n := len(second.questions()); n != 0 {
		t.Errorf("the second server was asked %d times", n)
	}
}

// tcpCallback is an auth service below HTTP: talk is called for each connection.
func tcpCallback(t *testing.T, talk func(net.Conn)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var talks sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	talks.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			talks.Go(func() {
				defer conn.Close()
				talk(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		talks.Wait()
	})
	return "http://" + listener.Addr().String()
}

// readRequest reads the head of a question.
func readRequest(c net.Conn) bool {
	seen := ""
	buf := make([]byte, 1024)
	for !strings.Contains(seen, "\r\n\r\n") {
		n, err := c.Read(buf)
		if err != nil {
			return false
		}
		seen += string(buf[:n])
	}
	return true
}

func TestK2ABrokenCallbackIs500InTime(t *testing.T) {
	hang := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	for name, talk := range map[string]func(net.Conn){
		"hangs": hang,
		"resets": func(c net.Conn) {
			readRequest(c)
			_ = c.(*net.TCPConn).SetLinger(0)
		},
		"closes without an answer": func(c net.Conn) { readRequest(c) },
		"speaks no HTTP":           func(c net.Conn) { readRequest(c); fmt.Fprint(c, "SSH-2.0-x\r\n\r\n") },
		"never ends its headers": func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := fmt.Fprint(c, "X-A: b\r\n"); err != nil {
					return
				}
			}
		},
		"drips its headers": func(c net.Conn) { readRequest(c); fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX-A"); hang(c) },
		"breaks off its body": func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, Config{CallbackURL: tcpCallback(t, talk), Timeout: 300 * time.Millisecond, ConnectTimeout: 300 * time.Millisecond})
			wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 500)
		})
	}
	t.Run("sends a body without end after a 200", func(t *testing.T) {
		var sent atomic.Int64
		u := tcpCallback(t, func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
			chunk := make([]byte, 32<<10)
			for {
				n, err := c.Write(chunk)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		h := newHouse(t, Config{CallbackURL: u, Timeout: 5 * time.Second})
		wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
		if sent.Load() > 64<<20 {
			t.Errorf("%d bytes were taken", sent.Load())
		}
	})
	t.Run("closes idle connections: no spurious 500", func(t *testing.T) {
		var calls atomic.Int64
		service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { calls.Add(1) }))
		defer service.Close()
		h := newHouse(t, Config{CallbackURL: service.URL})
		for range 20 {
			wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
			service.CloseClientConnections()
		}
		if calls.Load() != 20 {
			t.Errorf("asked %d times for 20 requests", calls.Load())
		}
	})
}

func TestK3AClientThatLeavesHarmsNobodyElse(t *testing.T) {
	release := make(chan struct{})
	o := newOperator(t, func(http.ResponseWriter, *http.Request) { <-release })
	h := newHouse(t, Config{CallbackURL: o.URL})
	leaver, err := net.Dial("tcp", h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(leaver, "GET /sandboxes HTTP/1.1\r\nHost: cube\r\nX-API-Key: key\r\n\r\n")
	var others sync.WaitGroup
	for range 5 {
		others.Go(func() {
			if resp := h.send(t, "GET /sandboxes", "X-API-Key: key"); resp.StatusCode != 200 {
				t.Errorf("another client got %s", resp.Status)
			}
		})
	}
	for len(o.questions()) < 6 {
		time.Sleep(time.Millisecond)
	}
	leaver.Close()
	close(release)
	others.Wait()
}

// FuzzP3PathJudgedIsPathServed has the router as its oracle: whatever comes
// through was judged under exactly the path that its handler's pattern matches.
func FuzzP3PathJudgedIsPathServed(f *testing.F) {
	for _, path := range []string{"/sandboxes", "/sandboxes/x", "/templates/a%2Fb", "/templates/../health", "//health", "/sandboxes/%2e%2e/health", "/v2/sandboxes?x=/health", "/sandboxes/x#y", "*", "http://h/health"} {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
			f.Add(method, path)
		}
	}
	var mu sync.Mutex
	var judged []string
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		judged = append(judged, r.Header.Get("X-Request-Method")+" "+r.Header.Get("X-Request-Path"))
	}))
	f.Cleanup(service.Close)
	h := newHouse(f, Config{CallbackURL: service.URL})
	f.Fuzz(func(t *testing.T, method, path string) {
		if strings.ContainsAny(method+path, "\r\n ") || method == "" || path == "" || len(path) > 8<<10 {
			t.Skip("no request line")
		}
		mu.Lock()
		judged = nil
		mu.Unlock()
		resp := h.raw(t, method+" "+path+" HTTP/1.1\r\nHost: cube\r\nX-API-Key: key\r\nConnection: close\r\n\r\n")
		ran := resp.Header.Get("X-Ran")
		if resp.StatusCode >= 300 && resp.StatusCode < 400 {
			t.Fatalf("%s %q is redirected to %q", method, path, resp.Header.Get("Location"))
		}
		if ran == "" || strings.HasSuffix(ran, " /health") {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if len(judged) != 1 {
			t.Fatalf("%s %q ran %q after %d questions", method, path, ran, len(judged))
		}
		if pattern := matchLiterally(judged[0]); pattern != ran {
			t.Fatalf("%s %q was judged as %q, which is %q, and ran %q", method, path, judged[0], pattern, ran)
		}
	})
}

// matchLiterally finds the pattern of a path by comparing its segments, without
// decoding or cleaning anything.
func matchLiterally(judged string) string {
	method, path, _ := strings.Cut(judged, " ")
	segments := strings.Split(path, "/")
	best, wildcards := "", 99
	for _, pattern := range patterns {
		m, p, _ := strings.Cut(pattern, " ")
		parts := strings.Split(p, "/")
		if m != method || len(parts) != len(segments) {
			continue
		}
		wild, ok := 0, true
		for i, part := range parts {
			if strings.HasPrefix(part, "{") {
				wild++
				ok = ok && segments[i] != ""
			} else {
				ok = ok && part == segments[i]
			}
		}
		if ok && wild < wildcards {
			best, wildcards = pattern, wild
		}
	}
	return best
}

package auth

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube/internal/requestid"
)

// operator is an auth service that records what it is asked.
type operator struct {
	*httptest.Server
	mu    sync.Mutex
	asked []*http.Request
}

// newOperator answers every question with answer.
func newOperator(t *testing.T, answer http.HandlerFunc) *operator {
	o := &operator{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.asked = append(o.asked, r)
		o.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *operator) questions() []*http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]*http.Request(nil), o.asked...)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// house is a server behind a door, with a router of the API's shape. The
// handlers answer with the pattern that they are registered under.
type house struct {
	*httptest.Server
	log *bytes.Buffer
	mu  sync.Mutex
	got []*http.Request // what came through
}

var patterns = []string{
	"GET /health", "HEAD /health", "POST /sandboxes", "GET /sandboxes", "GET /v2/sandboxes", "GET /sandboxes/{id}",
	"DELETE /sandboxes/{id}", "POST /sandboxes/{id}/timeout", "GET /templates/{id}", "POST /templates/{id}",
	"DELETE /templates/{id}", "PATCH /templates/{id}", "GET /templates/aliases/{alias}", "OPTIONS /sandboxes",
}

func newHouse(t testing.TB, c Config) *house {
	h := &house{log: &bytes.Buffer{}}
	c.Log = slog.New(slog.NewTextHandler(h.log, nil))
	door, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	mux := http.NewServeMux()
	for _, pattern := range patterns {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			h.mu.Lock()
			h.got = append(h.got, r)
			h.mu.Unlock()
			w.Header().Set("X-Ran", pattern)
		})
	}
	h.Server = httptest.NewUnstartedServer(requestid.Middleware(door.Wrap(mux)))
	ConfigureServer(h.Config)
	h.Start()
	t.Cleanup(h.Close)
	return h
}

// raw sends bytes as they are and returns the answer.
func (h *house) raw(t testing.TB, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("reading the answer to %q: %v", request, err)
	}
	return resp
}

// send makes a request of a request line and headers.
func (h *house) send(t testing.TB, line string, headers ...string) *http.Response {
	t.Helper()
	return h.raw(t, line+" HTTP/1.1\r\nHost: cube\r\n"+strings.Join(append(headers, ""), "\r\n")+"\r\n")
}

func wantStatus(t *testing.T, resp *http.Response, want int) {
	t.Helper()
	if resp.StatusCode != want {
		body, _ := io.ReadAll(resp.Body)
		t.Errorf("answered %s %s, want %d", resp.Status, body, want)
	}
}

func TestThePage(t *testing.T) {
	t.Run("when the URL is not set, all requests are allowed without any credential check", func(t *testing.T) {
		h := newHouse(t, Config{})
		wantStatus(t, h.send(t, "GET /sandboxes"), 200)
		wantStatus(t, h.send(t, "GET /sandboxes", "Authorization: Bearer a", "Authorization: Bearer b"), 200)
	})
	t.Run("the credential is extracted, Bearer takes priority over X-API-Key", func(t *testing.T) {
		o := newOperator(t, status(200))
		h := newHouse(t, Config{CallbackURL: o.URL})
		wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key", "Authorization: Bearer token"), 200)
		q := o.questions()[0].Header
		if q.Get("Authorization") != "Bearer token" || len(q.Values("X-Api-Key")) != 0 {
			t.Errorf("the callback got %v", q)
		}
	})
	t.Run("X-API-Key can be sent directly, and the two headers are mutually exclusive", func(t *testing.T) {
		o := newOperator(t, status(200))
		h := newHouse(t, Config{CallbackURL: o.URL})
		wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
		q := o.questions()[0].Header
		if q.Get("X-Api-Key") != "key" || len(q.Values("Authorization")) != 0 {
			t.Errorf("the callback got %v", q)
		}
	})
	t.Run("a POST is forwarded with the credential, the original path and the method", func(t *testing.T) {
		o := newOperator(t, status(200))
		h := newHouse(t, Config{CallbackURL: o.URL + "/verify?tenant=1"})
		resp := h.send(t, "DELETE /templates/my-tmpl?x=1", "Authorization: Bearer token", "Cookie: a=b", "X-Other: y")
		wantStatus(t, resp, 200)
		q := o.questions()[0]
		if q.Method != "POST" || q.RequestURI != "/verify?tenant=1" || q.ContentLength != 0 {
			t.Errorf("asked %s %s with %d bytes", q.Method, q.RequestURI, q.ContentLength)
		}
		want := http.Header{
			"Authorization":    {"Bearer token"},
			"X-Request-Path":   {"/templates/my-tmpl"},
			"X-Request-Method": {"DELETE"},
			"X-Request-Id":     {resp.Header.Get("X-Request-Id")},
			"User-Agent":       {"cube-api"},
			"Content-Length":   {"0"},
		}
		q.Header.Del("Accept-Encoding")
		if diff := cmp.Diff(want, q.Header); diff != "" {
			t.Errorf("the callback's headers (-want +got):\n%s", diff)
		}
	})
	t.Run("HTTP 200 is allowed through, any other status is 401", func(t *testing.T) {
		for _, code := range []int{200, 201, 202, 204, 206, 301, 302, 307, 400, 401, 403, 404, 429, 500, 502, 503} {
			h := newHouse(t, Config{CallbackURL: newOperator(t, status(code)).URL})
			want := http.StatusUnauthorized
			if code == 200 {
				want = http.StatusOK
			}
			wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), want)
		}
	})
	t.Run("no credential provided: 401, and nobody is asked", func(t *testing.T) {
		o := newOperator(t, status(200))
		h := newHouse(t, Config{CallbackURL: o.URL})
		for _, headers := range [][]string{nil, {"Authorization: Bearer"}, {"Authorization: Bearer  "}, {"Authorization: Basic dXNlcjo="}, {"X-API-Key:"}} {
			resp := h.send(t, "GET /sandboxes", headers...)
			wantStatus(t, resp, 401)
			if resp.Header.Get("WWW-Authenticate") != `Bearer realm="cube"` || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v", resp.Header)
			}
			var body struct {
				Code    int
				Message string
			}
			if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || body.Code != 401 || body.Message == "" {
				t.Errorf("body %+v, %v", body, err)
			}
		}
		wantStatus(t, h.send(t, "GET /no/such/route"), 401)
		if n := len(o.questions()); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("callback unreachable: 500, that tells neither where nor why", func(t *testing.T) {
		o := newOperator(t, status(200))
		o.Close()
		h := newHouse(t, Config{CallbackURL: o.URL + "/secret-path"})
		resp := h.send(t, "GET /sandboxes", "X-API-Key: the-key")
		wantStatus(t, resp, 500)
		body, _ := io.ReadAll(resp.Body)
		if strings.Contains(string(body), "127.0.0.1") || strings.Contains(string(body), "refused") {
			t.Errorf("the body tells %s", body)
		}
		if log := h.log.String(); !strings.Contains(log, "refused") || strings.Contains(log, "the-key") || strings.Contains(log, "secret-path") {
			t.Errorf("the log holds %s", log)
		}
	})
	t.Run("every incoming request is validated, once", func(t *testing.T) {
		o := newOperator(t, status(200))
		h := newHouse(t, Config{CallbackURL: o.URL})
		for range 3 {
			wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
		}
		if n := len(o.questions()); n != 3 {
			t.Errorf("asked %d times for 3 requests", n)
		}
	})
	t.Run("GET and HEAD of /health are free, unless nothing is to be", func(t *testing.T) {
		o := newOperator(t, status(401))
		h := newHouse(t, Config{CallbackURL: o.URL})
		wantStatus(t, h.send(t, "GET /health"), 200)
		wantStatus(t, h.send(t, "HEAD /health"), 200)
		wantStatus(t, h.send(t, "GET /health?x"), 200)
		closed := newHouse(t, Config{CallbackURL: o.URL, Exempt: ExemptNone})
		wantStatus(t, closed.send(t, "GET /health"), 401)
	})
}

// TestThePagesRules is the page's example callback, in Go; the Python one runs
// in page_test.go.
func TestThePagesRules(t *testing.T) {
	o := newOperator(t, func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if key == "" {
			key = r.Header.Get("X-API-Key")
		}
		method := r.Header.Get("X-Request-Method")
		switch {
		case key == "secret-key-1" || key == "secret-key-2":
		case key == "readonly-key-1" && (method == "GET" || method == "HEAD"):
		case key == "readonly-key-1":
			w.WriteHeader(403)
		default:
			w.WriteHeader(401)
		}
	})
	checkPageRules(t, newHouse(t, Config{CallbackURL: o.URL + "/verify"}))
}

// checkPageRules checks what the page's example promises.
func checkPageRules(t *testing.T, h *house) {
	for _, row := range []struct {
		line, header string
		want         int
	}{
		{"GET /templates/t", "Authorization: Bearer secret-key-1", 200},
		{"DELETE /templates/t", "Authorization: Bearer secret-key-2", 200},
		{"POST /sandboxes", "X-API-Key: secret-key-1", 200},
		{"GET /templates/t", "X-API-Key: readonly-key-1", 200},
		{"POST /templates/t", "X-API-Key: readonly-key-1", 401},
		{"PATCH /templates/t", "Authorization: Bearer readonly-key-1", 401},
		{"DELETE /templates/t", "Authorization: Bearer readonly-key-1", 401},
		{"GET /templates/t", "X-API-Key: another", 401},
		{"GET /templates/t", "X-Nothing: there", 401},
	} {
		if resp := h.send(t, row.line, row.header); resp.StatusCode != row.want {
			t.Errorf("%s with %q: %s, want %d", row.line, row.header, resp.Status, row.want)
		}
	}
}

func TestCORSStandsOnErrorsToo(t *testing.T) {
	h := newHouse(t, Config{CallbackURL: newOperator(t, status(401)).URL})
	for _, line := range []string{"GET /sandboxes", "TRACE /sandboxes", "OPTIONS /sandboxes"} {
		if resp := h.send(t, line); resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %s %v", line, resp.Status, resp.Header)
		}
	}
	preflight := h.send(t, "OPTIONS /sandboxes", "Origin: http://page", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-api-key")
	wantStatus(t, preflight, 204)
	if preflight.Header.Get("Access-Control-Allow-Headers") != "x-api-key" {
		t.Errorf("preflight %v", preflight.Header)
	}
	wantStatus(t, h.send(t, "OPTIONS /sandboxes", "Origin: http://page"), 401)
}

func TestTheDecisionComesBeforeTheBody(t *testing.T) {
	h := newHouse(t, Config{CallbackURL: newOperator(t, status(401)).URL})
	resp := h.send(t, "POST /sandboxes", "X-API-Key: key", "Content-Length: 1073741824", "Expect: 100-continue")
	wantStatus(t, resp, 401) // and not 100
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	for _, u := range []string{"auth.example/verify", "ftp://auth.example", "http://", "http://a b", "https://x/#part"} {
		_, err := New(Config{CallbackURL: u})
		if err == nil || !strings.Contains(err.Error(), "--auth-callback-url") {
			t.Errorf("%q: %v", u, err)
		}
	}
}

func ExampleDoor_Wrap() {
	door, err := New(Config{Log: slog.Default()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer door.Close()
	server := httptest.NewServer(door.Wrap(http.NotFoundHandler()))
	defer server.Close()
	resp, err := http.Get(server.URL + "/sandboxes")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode)
	// Output: 404
}

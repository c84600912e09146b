package auth

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cube/auth/callback"
	"cube/auth/decision"
	"cube/internal/requestid"
)

// TestMain fails when a test leaves a goroutine behind: a broken callback must
// not cost the server one.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// operator is an auth service that records what it is asked.
type operator struct {
	*httptest.Server
	mu    sync.Mutex
	asked []*http.Request
}

// newOperator answers every question with answer.
func newOperator(t testing.TB, answer http.HandlerFunc) *operator {
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
	return slices.Clone(o.asked)
}

// last is the headers of the last question.
func (o *operator) last(t testing.TB) http.Header {
	t.Helper()
	questions := o.questions()
	if len(questions) == 0 {
		t.Fatal("the callback was never asked")
	}
	return questions[len(questions)-1].Header
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// house is a server behind a door, with a router of the API's shape. The
// handlers answer with the pattern that they are registered under.
type house struct {
	*httptest.Server
	door     *Door
	log      *bytes.Buffer
	mu       sync.Mutex
	got      []*http.Request // what came through
	outcomes []decision.Outcome
}

// asking is a Config with a callback.
func asking(url string, more ...func(*Config)) Config {
	c := Config{Rules: Rules{Callback: callback.Config{Name: "--auth-callback", URLs: []string{url}, Timeout: 10 * time.Second, ConnectTimeout: 2 * time.Second, Retries: 1, InFlight: 1024, ErrorsToOpen: 5}}}
	for _, change := range more {
		change(&c)
	}
	return c
}

// within shortens a question.
func within(d time.Duration) func(*Config) {
	return func(c *Config) { c.Callback.Timeout, c.Callback.ConnectTimeout = d, d }
}

var patterns = []string{
	"GET /health", "HEAD /health", "POST /sandboxes", "GET /sandboxes", "GET /v2/sandboxes", "GET /sandboxes/{id}",
	"DELETE /sandboxes/{id}", "POST /sandboxes/{id}/timeout", "GET /templates/{id}", "POST /templates/{id}",
	"DELETE /templates/{id}", "PATCH /templates/{id}", "GET /templates/aliases/{alias}",
	"GET /templates/{id}/builds/{build}/status", "GET /v2/templates/{id}", "GET /v2/templates/{id}/builds/{build}", "OPTIONS /sandboxes",
}

func newHouse(t testing.TB, c Config) *house {
	h := &house{log: &bytes.Buffer{}}
	c.Log = slog.New(slog.NewTextHandler(h.log, nil))
	c.Observe = func(o decision.Outcome) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.outcomes = append(h.outcomes, o)
	}
	door, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	h.door = door
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
	h.Config.Protocols = new(http.Protocols)
	h.Config.Protocols.SetHTTP1(true)
	h.Config.Protocols.SetUnencryptedHTTP2(true)
	ConfigureServer(h.Config)
	h.Start()
	t.Cleanup(h.Close)
	return h
}

func (h *house) seen() []decision.Outcome {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.outcomes)
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

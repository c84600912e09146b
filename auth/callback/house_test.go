package callback

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"cube/auth/decision"
)

// TestMain fails when a test leaves a goroutine behind: a broken service must
// not cost the server one.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func question(secret string) decision.Question {
	return decision.Question{
		Credential: decision.Credential{Kind: decision.APIKey, Secret: secret},
		Method:     "GET", Path: "/sandboxes", RequestID: "r1", Fingerprint: "f1",
	}
}

func newClient(t testing.TB, config Config) *Client {
	t.Helper()
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// decide asks, and fails the test if there is no answer.
func decide(t testing.TB, c *Client, q decision.Question) decision.Answer {
	t.Helper()
	a, err := c.Decide(t.Context(), q)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return a
}

// wantNoAnswer asks, and fails the test if there is an answer, or none for
// another reason.
func wantNoAnswer(t testing.TB, c *Client, reason string) {
	t.Helper()
	a, err := c.Decide(t.Context(), question("key"))
	if err == nil || !strings.Contains(err.Error(), reason) || a.Allowed || a.Status != 0 {
		t.Errorf("answered %+v, %v; want none, for: %s", a, err, reason)
	}
}

// operator is an auth service that records what it is asked.
type operator struct {
	*httptest.Server
	mu    sync.Mutex
	asked []*http.Request
}

// newOperator answers every question with answer.
func newOperator(t testing.TB, answer http.HandlerFunc) *operator {
	o := unstarted(answer)
	o.Start()
	t.Cleanup(o.Close)
	return o
}

func unstarted(answer http.HandlerFunc) *operator {
	o := &operator{}
	o.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.asked = append(o.asked, r)
		o.mu.Unlock()
		answer(w, r)
	}))
	o.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	return o
}

func (o *operator) questions() []*http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// answering answers with headers, as they are spelt, and a status.
func answering(code int, h http.Header) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range h {
			w.Header()[name] = values
		}
		w.WriteHeader(code)
	}
}

// logTo returns a logger and what it was given.
func logTo() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, nil)), &b
}

// tcpService is an auth service below HTTP: talk is called for each connection.
func tcpService(t testing.TB, talk func(net.Conn)) string {
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

// wire is a network in memory, of which time in a bubble of synctest knows: the
// client's transport and net/http's server are the real ones.
type wire struct {
	t     testing.TB
	hosts map[string]*host
}

// host is a service on a wire.
type host struct {
	handler http.HandlerFunc
	refuses atomic.Bool // connections, as long as it is true
	dials   atomic.Int64
	asked   atomic.Int64
	now     atomic.Int64 // questions that it has at this moment
	most    atomic.Int64 // that it ever had at one moment
	conns   chan net.Conn
	closed  chan struct{}
}

func newWire(t testing.TB) *wire { return &wire{t, map[string]*host{}} }

// add starts a service. It must be in the bubble of its test.
func (w *wire) add(name string, handler http.HandlerFunc) *host {
	h := &host{handler: handler, conns: make(chan net.Conn), closed: make(chan struct{})}
	w.hosts[name] = h
	server := &http.Server{Handler: h}
	go server.Serve(h)
	w.t.Cleanup(func() { server.Close() })
	return h
}

func (w *wire) dial(ctx context.Context, _, address string) (net.Conn, error) {
	name, _, _ := net.SplitHostPort(address)
	h := w.hosts[name]
	h.dials.Add(1)
	if h.refuses.Load() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	select {
	case h.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// ServeHTTP counts, and asks the handler.
func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.asked.Add(1)
	now := h.now.Add(1)
	defer h.now.Add(-1)
	for most := h.most.Load(); now > most && !h.most.CompareAndSwap(most, now); most = h.most.Load() {
	}
	h.handler(w, r)
}

// Accept, Close and Addr make of a host a listener.
func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error   { close(h.closed); return nil }
func (h *host) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// hang answers when whoever asks is gone.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// outcome is what one of several who ask at once got.
type outcome struct {
	answer decision.Answer
	err    error
}

// ask asks n questions at once. What they got comes in the channel.
func ask(ctx context.Context, c *Client, n int) <-chan outcome {
	got := make(chan outcome, n)
	for i := range n {
		go func() {
			a, err := c.Decide(ctx, question(fmt.Sprint("key", i)))
			got <- outcome{a, err}
		}()
	}
	return got
}

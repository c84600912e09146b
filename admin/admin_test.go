package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cube/telemetry"
)

// house is an operators' listener that counts what is done.
type house struct {
	*httptest.Server
	purged  int
	unready error
	log     bytes.Buffer
}

func newHouse(t *testing.T) *house {
	h := &house{}
	h.Server = httptest.NewServer(Handler(Config{
		Metrics: telemetry.NewMetrics(telemetry.Sources{}).Handler(),
		Purge:   func() { h.purged++ },
		Ready:   func(context.Context) error { return h.unready },
		Log:     slog.New(slog.NewTextHandler(&h.log, nil)),
	}))
	t.Cleanup(h.Close)
	return h
}

// do sends a request; change may be nil.
func (h *house) do(t *testing.T, method, path string, change func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s: headers %v, %v", method, path, resp.Header, err)
	}
	return resp.StatusCode, string(body)
}

func wantError(t *testing.T, what string, want, status int, body string) {
	t.Helper()
	var e struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil || status != want || e.Code != want || e.Message == "" {
		t.Errorf("%s: answered %d %s, want an error %d", what, status, body, want)
	}
}

func TestWhatAnOperatorMayDo(t *testing.T) {
	h := newHouse(t)
	if status, body := h.do(t, "GET", "/metrics", nil); status != 200 || !strings.Contains(body, "cube_auth_requests_total") {
		t.Errorf("metrics: %d %s", status, body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, body := h.do(t, "GET", path, nil); status != 204 || body != "" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := h.do(t, "POST", "/auth/purge", nil); status != 204 || h.purged != 1 {
		t.Errorf("purge: %d, purged %d times", status, h.purged)
	}

	h.unready = errors.New("the disk of http://secret@example is full")
	status, body := h.do(t, "GET", "/readyz", nil)
	wantError(t, "not ready", 503, status, body)
	if strings.Contains(body, "secret") || !strings.Contains(h.log.String(), "full") {
		t.Errorf("answered %s, logged %s", body, h.log.String())
	}
	if status, _ := h.do(t, "GET", "/healthz", nil); status != 204 {
		t.Errorf("a server that is not ready is dead: %d", status)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	h := newHouse(t)
	for _, request := range []string{"GET /", "GET /auth/purge", "POST /metrics", "PUT /auth/purge", "GET /debug/pprof/", "GET /sandboxes", "POST /auth/purge/x"} {
		method, path, _ := strings.Cut(request, " ")
		status, body := h.do(t, method, path, nil)
		wantError(t, request, 404, status, body)
	}
	bare := httptest.NewServer(Handler(Config{}))
	defer bare.Close()
	empty := &house{Server: bare}
	for request, want := range map[string]int{"GET /metrics": 404, "POST /auth/purge": 204, "GET /readyz": 204} {
		method, path, _ := strings.Cut(request, " ")
		if status, _ := empty.do(t, method, path, nil); status != want {
			t.Errorf("%s without anything: %d, want %d", request, status, want)
		}
	}
	if h.purged != 0 {
		t.Error("something was purged")
	}
}

func TestBrowsersAreRefused(t *testing.T) {
	h := newHouse(t)
	for _, origin := range []string{"http://evil.example", "http://127.0.0.1:3000", "null", ""} {
		status, body := h.do(t, "POST", "/auth/purge", func(r *http.Request) { r.Header["Origin"] = []string{origin} })
		wantError(t, "from "+origin, 403, status, body)
	}
	for _, host := range []string{"evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example", "localhost.", "127.0.0.1:80:80", "0x7f000001", "a127.0.0.1"} {
		status, body := h.do(t, "POST", "/auth/purge", func(r *http.Request) { r.Host = host })
		wantError(t, "to "+host, 403, status, body)
	}
	if h.purged != 0 {
		t.Fatalf("a page has purged %d times", h.purged)
	}
	for i, host := range []string{"127.0.0.1", "127.0.0.1:9090", "[::1]:9090", "[::1]", "localhost", "LocalHost:1", "10.0.0.7:9090"} {
		if status, _ := h.do(t, "POST", "/auth/purge", func(r *http.Request) { r.Host = host }); status != 204 || h.purged != i+1 {
			t.Errorf("to %s: %d", host, status)
		}
	}
}

package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestOperatorsSeeAndForget is what somebody who runs the server does beside it:
// read its metrics, ask whether it is ready, have it forget, follow its traces.
func TestOperatorsSeeAndForget(t *testing.T) {
	var questions, spans atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { questions.Add(1) }))
	t.Cleanup(service.Close)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		spans.Add(int64(strings.Count(string(body), "cube.request_id")))
	}))
	t.Cleanup(collector.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)

	s := start(t, "--admin-bind", "127.0.0.1:0", "--auth-callback-url", service.URL, "--auth-callback-cache-ttl", "1h")
	s.log.await(t, "operators are answered")
	operators := regexp.MustCompile(`operators are answered" url=(\S+)`).FindStringSubmatch(s.log.String())
	ask := func(method, path string, want int, headers ...string) string {
		t.Helper()
		beside := &server{t: t, url: operators[1], client: s.client}
		status, body := beside.call(method, path, nil, headers...)
		if status != want {
			t.Errorf("%s %s: %d %s, want %d", method, path, status, body, want)
		}
		return string(body)
	}
	list := func() {
		t.Helper()
		if status, body := s.call("GET", "/v2/sandboxes", nil, "X-API-Key", fullKey); status != http.StatusOK {
			t.Errorf("listing: %d %s", status, body)
		}
	}

	ask("GET", "/readyz", http.StatusNoContent)
	s.create()
	list()
	before := questions.Load()
	list()
	if questions.Load() != before {
		t.Error("what is remembered was asked again")
	}
	ask("POST", "/auth/purge", http.StatusForbidden, "Origin", "http://example.test")
	ask("POST", "/auth/purge", http.StatusNoContent)
	list()
	if questions.Load() != before+1 {
		t.Errorf("%d questions after the purge, want 1", questions.Load()-before)
	}
	metrics := ask("GET", "/metrics", http.StatusOK)
	for _, line := range []string{
		"cube_sandboxes_created_total 1", "cube_sandboxes 1", "cube_auth_cache_purges_total 1",
		`cube_auth_callback_seconds_count{outcome="allowed"} 3`,
	} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("the metrics do not say %q", line)
		}
	}
	if status, _ := s.call("GET", "/metrics", nil, "X-API-Key", fullKey); status != http.StatusNotFound {
		t.Errorf("the metrics are at the users' address: %d", status)
	}
	s.stop(syscall.SIGTERM)
	if spans.Load() == 0 {
		t.Error("no span was handed over")
	}
	s.launch()
}

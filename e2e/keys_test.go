package e2e

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// keys runs "cube-api keys" beside the running server.
func (s *server) keys(args ...string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.t.Context(), "../bin/cube-api", append([]string{"--data-dir", s.dir, "keys"}, args...)...).Output()
	if err != nil {
		s.t.Fatalf("cube-api keys %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// TestKeysOfTheServersOwn is a laptop without an auth service: open until the
// first key, and closed from that moment on.
func TestKeysOfTheServersOwn(t *testing.T) {
	s := start(t)
	ask := func(method, path, key string, body any, want int) {
		t.Helper()
		if status, body := s.call(method, path, body, "X-API-Key", key); status != want {
			t.Errorf("%s %s: %d %s, want %d", method, path, status, body, want)
		}
	}
	ask("GET", "/v2/sandboxes", "", nil, http.StatusOK)
	full, reader := s.keys("create", "laptop"), s.keys("create", "ci", "--role=read-only")
	ask("GET", "/v2/sandboxes", "", nil, http.StatusUnauthorized)
	ask("GET", "/health", "", nil, http.StatusOK)
	ask("GET", "/v2/sandboxes", full, nil, http.StatusOK)
	ask("GET", "/v2/sandboxes", reader, nil, http.StatusOK)
	create := map[string]any{"templateID": "base", "timeout": 1}
	ask("POST", "/v2/sandboxes", reader, create, http.StatusForbidden)
	ask("POST", "/v2/sandboxes", full, create, http.StatusCreated)
	ask("GET", "/api-keys", full, nil, http.StatusOK)
	s.key = s.keys("create", "desktop")
	s.keys("revoke", "laptop")
	s.keys("revoke", "ci")
	for _, key := range []string{"", full, reader} {
		ask("GET", "/v2/sandboxes", key, nil, http.StatusUnauthorized)
	}
	ask("GET", "/v2/sandboxes", s.key, nil, http.StatusOK)
	if log := s.log.String(); strings.Contains(log, full) || strings.Contains(log, reader) || strings.Contains(log, s.key) {
		t.Error("the log holds a key")
	}
}

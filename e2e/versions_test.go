package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

// TestBothVersionsOfTheRoutes tells what a client gets that names no timeout and
// no security, which differs by the version, and that connecting never takes time
// away.
func TestBothVersionsOfTheRoutes(t *testing.T) {
	s := start(t)
	type detail struct {
		StartedAt, EndAt time.Time
		EnvdAccessToken  string
	}
	look := func(id string) (d detail) {
		t.Helper()
		status, body := s.call("GET", "/sandboxes/"+id, nil)
		if err := json.Unmarshal(body, &d); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		return d
	}
	for _, row := range []struct {
		prefix string
		life   time.Duration
		secure bool
	}{{"", 15 * time.Second, false}, {"/v2", 300 * time.Second, true}} {
		status, body := s.call("POST", row.prefix+"/sandboxes", map[string]any{"templateID": "base"})
		var c sandbox
		if err := json.Unmarshal(body, &c); err != nil || status != http.StatusCreated {
			t.Fatalf("POST %s/sandboxes: %d %s", row.prefix, status, body)
		}
		if status, _ := s.call("GET", "/sandboxes/"+c.SandboxID, nil); status == http.StatusNotFound && row.prefix == "" {
			continue // its 15 seconds were over before we came
		}
		first := look(c.SandboxID)
		// It may take a moment from its start until its time begins to run.
		if life := first.EndAt.Sub(first.StartedAt); life < row.life || life > row.life+time.Minute || (c.EnvdAccessToken != "") != row.secure {
			t.Errorf("POST %s/sandboxes: it lives %v, with a token: %t; want %v, %t", row.prefix, life, c.EnvdAccessToken != "", row.life, row.secure)
		}
		if row.prefix == "" {
			continue // its 15 seconds may be over on a busy machine
		}
		for _, route := range []string{"/sandboxes/", "/v2/sandboxes/"} {
			if status, body := s.call("POST", route+c.SandboxID+"/connect", map[string]any{"timeout": 10}); status != http.StatusOK {
				t.Errorf("connecting: %d %s", status, body)
			}
			if now := look(c.SandboxID); !now.EndAt.Equal(first.EndAt) {
				t.Errorf("connecting for 10 seconds moved its end from %v to %v", first.EndAt, now.EndAt)
			}
		}
		if s.call("POST", "/v2/sandboxes/"+c.SandboxID+"/connect", map[string]any{"timeout": 3000}); !look(c.SandboxID).EndAt.After(first.EndAt) {
			t.Error("connecting for longer does not prolong it")
		}
		if s.call("POST", "/sandboxes/"+c.SandboxID+"/timeout", map[string]any{"timeout": 100}); !look(c.SandboxID).EndAt.Before(first.EndAt) {
			t.Error("setting a shorter timeout does not shorten it")
		}
	}
}

package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAPausedSandboxGoesAfterItsRetention pauses one on a server that keeps none
// for long, and that is killed meanwhile.
func TestAPausedSandboxGoesAfterItsRetention(t *testing.T) {
	s := start(t)
	created := s.create()
	s.pause(created.SandboxID)
	s.args = []string{"--paused-retention", "1s"}
	s.crash()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		status, body := s.call("GET", "/sandboxes/"+created.SandboxID, nil, "X-API-Key", fullKey)
		if status == http.StatusNotFound {
			if !strings.Contains(string(body), "paused for longer") {
				t.Errorf("the answer does not say why it is gone: %s", body)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is there still: %d %s", status, body)
		}
	}
	if err := poll(func() error { return nothing(names(filepath.Join(s.dir, "snapshots"))) }); err != nil {
		t.Errorf("of its snapshot there is %v", err)
	}
}

// TestASandboxTooLargeForItsQuotaRunsOn asks for what takes more of the disk than an
// account may have.
func TestASandboxTooLargeForItsQuotaRunsOn(t *testing.T) {
	s := start(t, "--quota-snapshot-mb", "1")
	created := s.create()
	for _, step := range []string{"pause", "snapshots", "fork"} {
		status, body := s.call("POST", "/sandboxes/"+created.SandboxID+"/"+step, map[string]any{"count": 1, "timeout": 60}, "X-API-Key", fullKey)
		if status != http.StatusTooManyRequests || !strings.Contains(string(body), "you may have 1 for all that is paused") {
			t.Errorf("%s: %d %s", step, status, body)
		}
		if status := s.health(created.SandboxID); status != http.StatusNoContent {
			t.Errorf("after the %s that was refused the agent answers %d", step, status)
		}
	}
	if err := poll(func() error { return nothing(names(filepath.Join(s.dir, "snapshots"))) }); err != nil {
		t.Errorf("of what was refused there is %v", err)
	}
}

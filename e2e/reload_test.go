package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSettingsAreReloadedAndWhatHappenedIsWrittenDown is an operator's day: the
// service moves, a settings file is broken for a while, and in the evening
// somebody asks who did what.
func TestSettingsAreReloadedAndWhatHappenedIsWrittenDown(t *testing.T) {
	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(closed.Close)
	file := filepath.Join(t.TempDir(), "cube.json")
	write := func(settings string) {
		if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	asking := func(url string) string {
		text, _ := json.Marshal(map[string]any{"auth-callback-url": url, "auth-callback-cache-ttl": "1h", "audit": true})
		return string(text)
	}
	open := asking(teams(t))
	write(open)
	s := start(t, "--config", file)
	hangUp := func(says string) {
		t.Helper()
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.log.await(t, says)
	}
	list := func(want int) {
		t.Helper()
		if status, body := s.call("GET", "/v2/sandboxes", nil, "X-API-Key", redKey); status != want {
			t.Errorf("listing: %d %s, want %d", status, body, want)
		}
	}
	id := s.create().SandboxID
	list(http.StatusOK)
	write(asking(closed.URL))
	list(http.StatusOK)
	hangUp("changed=[AUTH_CALLBACK_URL]")
	list(http.StatusUnauthorized)
	write(`{"auth-callback-urll": "http://127.0.0.1:1"}`)
	hangUp("auth-callback-urll")
	list(http.StatusUnauthorized)
	write(open)
	hangUp("changed=[AUTH_CALLBACK_URL]")
	list(http.StatusOK)
	if status := s.kill(id); status != http.StatusNoContent {
		t.Errorf("killing: %d", status)
	}
	s.stop(syscall.SIGTERM)

	out, err := exec.CommandContext(t.Context(), "../bin/cube-api", "--data-dir", s.dir, "audit", "export", "--sandbox", id).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"sandbox.created", "sandbox.ended"} {
		if strings.Count(string(out), `"action":"`+action+`"`) != 1 {
			t.Errorf("of %s the log says %s", action, out)
		}
	}
	s.launch()
}

// await returns when a line holds a text; the next one looks at the lines after it.
func (b *logBuffer) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		b.mu.Lock()
		for i := b.awaited; i < len(b.lines); i++ {
			if strings.Contains(b.lines[i], text) {
				b.awaited = i + 1
				b.mu.Unlock()
				return
			}
		}
		b.mu.Unlock()
	}
	t.Fatalf("the log never says %q:\n%s", text, b)
}

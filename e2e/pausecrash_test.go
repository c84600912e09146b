package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestAKilledServerLosesNoPausedSandbox kills the server at random moments of
// pauses, resumes, forks and snapshots. After each new start the sandboxes are
// there with what was written in them, and nothing is on the machine that the
// server does not know of.
func TestAKilledServerLosesNoPausedSandbox(t *testing.T) {
	const moments = 20
	s := start(t)
	survivors := []string{s.createOpen(), s.createOpen()}
	for _, id := range survivors {
		s.write(id, "0")
	}
	for moment := 1; moment <= moments; moment++ {
		s.pauseAndCrash(survivors, time.Duration(rand.IntN(300))*time.Millisecond)
		for _, id := range survivors {
			if status, body := s.call("POST", "/sandboxes/"+id+"/connect", map[string]int{"timeout": 600}, "X-API-Key", fullKey); status != http.StatusOK && status != http.StatusCreated {
				t.Fatalf("moment %d: connecting to %s: %d %s", moment, id, status, body)
			}
			if got, want := s.read(id), fmt.Sprintf("%q", fmt.Sprint(moment-1)); got != want {
				t.Fatalf("moment %d: %s has %s in its file, want %s", moment, id, got, want)
			}
			s.write(id, fmt.Sprint(moment))
		}
		for _, id := range s.list() {
			if !slices.Contains(survivors, id) {
				s.kill(id)
			}
		}
		s.deleteSnapshots()
		if left := s.awaitSandboxes(len(survivors)); left != nil {
			t.Fatalf("moment %d: more than the survivors is left:\n%s", moment, strings.Join(left, "\n"))
		}
		if left := s.awaitNoSnapshots(); left != nil {
			t.Fatalf("moment %d: snapshots are left that nobody has: %q", moment, left)
		}
	}
}

// createOpen creates a sandbox whose agent asks nobody for a token.
func (s *server) createOpen() string {
	s.t.Helper()
	status, body := s.call("POST", "/sandboxes", map[string]any{"templateID": "base", "timeout": 600}, "X-API-Key", fullKey)
	var created sandbox
	if err := json.Unmarshal(body, &created); status != http.StatusCreated || err != nil {
		s.t.Fatalf("creating a sandbox: %d %s", status, body)
	}
	return created.SandboxID
}

// write writes a file in a sandbox, as JSON has the text.
func (s *server) write(id, text string) {
	s.t.Helper()
	status, body := s.call("POST", "/files?path=/home/user/moment&username=user", text,
		"E2b-Sandbox-Id", id, "E2b-Sandbox-Port", "49983", "Content-Type", "application/octet-stream")
	if status != http.StatusOK {
		s.t.Fatalf("writing in %s: %d %s", id, status, body)
	}
}

func (s *server) read(id string) string {
	s.t.Helper()
	_, body := s.call("GET", "/files?path=/home/user/moment&username=user", nil, "E2b-Sandbox-Id", id, "E2b-Sandbox-Port", "49983")
	return string(body)
}

// pauseAndCrash has clients at work on the sandboxes, kills the server after a
// while, and starts it again.
func (s *server) pauseAndCrash(ids []string, after time.Duration) {
	var clients sync.WaitGroup
	for _, id := range ids {
		clients.Go(func() {
			for {
				step := "/pause"
				var form any
				switch rand.IntN(4) {
				case 0:
					step, form = "/fork", map[string]int{"count": 1, "timeout": 60}
				case 1:
					step, form = "/snapshots", map[string]any{}
				}
				for _, path := range []string{step, "/connect"} {
					if path == "/connect" {
						form = map[string]int{"timeout": 600}
					}
					if _, _, err := s.try("POST", "/sandboxes/"+id+path, form, "X-API-Key", fullKey); err != nil {
						return // the server is dead
					}
				}
			}
		})
	}
	time.Sleep(after) // the random moment is what this test is about
	_ = s.cmd.Process.Kill()
	clients.Wait()
	<-s.done
	s.launch()
}

func (s *server) deleteSnapshots() {
	s.t.Helper()
	_, body := s.call("GET", "/snapshots", nil, "X-API-Key", fullKey)
	var list []struct{ SnapshotID string }
	if err := json.Unmarshal(body, &list); err != nil {
		s.t.Fatalf("listing snapshots: %s", body)
	}
	for _, snapshot := range list {
		if status, body := s.call("DELETE", "/templates/"+snapshot.SnapshotID, nil, "X-API-Key", fullKey); status != http.StatusNoContent {
			s.t.Errorf("deleting %s: %d %s", snapshot.SnapshotID, status, body)
		}
	}
}

// awaitNoSnapshots waits until the engine keeps none, and returns what it keeps
// if that takes too long.
func (s *server) awaitNoSnapshots() []string {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var names []string
		entries, _ := os.ReadDir(filepath.Join(s.dir, "snapshots"))
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		if len(names) == 0 || time.Now().After(deadline) {
			return names
		}
	}
}

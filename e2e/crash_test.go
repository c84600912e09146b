package e2e

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cube/internal/testhost"
)

// TestKilledServerLosesNothing kills the server at random moments while clients
// create and kill sandboxes, and checks after each new start: what was answered
// as created runs and is usable, what was answered as killed is gone, and what
// was half-made is gone too.
func TestKilledServerLosesNothing(t *testing.T) {
	const moments = 20
	s := start(t)
	survivor := s.create()
	for moment := range moments {
		alive := s.churnAndCrash(time.Duration(rand.IntN(400)) * time.Millisecond)
		alive = append(alive, survivor.SandboxID)

		// A kill that was cut off may have happened or not; all else is known.
		listed := s.list()
		for _, id := range alive {
			if !slices.Contains(listed, id) {
				t.Fatalf("moment %d: sandbox %s was created and is lost", moment, id)
			}
		}
		for _, id := range listed {
			if status := s.health(id); status != http.StatusNoContent {
				t.Errorf("moment %d: the agent of %s answers %d", moment, id, status)
			}
		}
		for _, id := range listed {
			if id != survivor.SandboxID {
				s.kill(id)
			}
		}
		if left := s.awaitSandboxes(1); left != nil {
			t.Fatalf("moment %d: more than the survivor is left:\n%s", moment, strings.Join(left, "\n"))
		}
	}
	if status := s.health(survivor.SandboxID); status != http.StatusNoContent {
		t.Errorf("the survivor answers %d after %d crashes", status, moments)
	}
}

// churnAndCrash has clients create and kill sandboxes, kills the server after a
// while, starts it again, and returns the sandboxes that must be there.
func (s *server) churnAndCrash(after time.Duration) []string {
	var mu sync.Mutex
	var alive []string
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for {
				id, err := s.tryCreate()
				if err != nil {
					return // the server is dead
				}
				if rand.IntN(2) == 0 {
					mu.Lock()
					alive = append(alive, id)
					mu.Unlock()
					continue
				}
				if _, _, err := s.try("DELETE", "/sandboxes/"+id, nil, "X-API-Key", fullKey); err != nil {
					return
				}
			}
		})
	}
	time.Sleep(after) // the random moment is what this test is about
	_ = s.cmd.Process.Kill()
	clients.Wait()
	<-s.done
	s.launch()
	return alive
}

// awaitSandboxes waits until no more than n sandboxes have a directory: what was
// half-made is removed while the new server takes requests already. It returns
// what is left if that takes too long.
func (s *server) awaitSandboxes(n int) []string {
	deadline := time.Now().Add(time.Minute)
	for {
		left := testhost.Leftovers(s.dir)
		if countSandboxes(left) <= n {
			return nil
		}
		if time.Now().After(deadline) {
			return left
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func countSandboxes(left []string) int {
	n := 0
	for _, line := range left {
		if sandboxDirectory.MatchString(line) {
			n++
		}
	}
	return n
}

// TestStoppedServerLeavesSandboxes stops the server as an operator does.
func TestStoppedServerLeavesSandboxes(t *testing.T) {
	s := start(t)
	created := s.create()
	s.stop(syscall.SIGTERM)
	s.launch()
	if status := s.health(created.SandboxID); status != http.StatusNoContent {
		t.Errorf("after a stop and a start the agent answers %d", status)
	}
}

// TestDeadlineDuringAnOutage lets a deadline pass while no server runs.
func TestDeadlineDuringAnOutage(t *testing.T) {
	s := start(t)
	created := s.create()
	if status, body := s.call("POST", "/sandboxes/"+created.SandboxID+"/timeout", map[string]int{"timeout": 1}, "X-API-Key", fullKey); status != http.StatusNoContent {
		t.Fatalf("setting the timeout: %d %s", status, body)
	}
	s.stop(syscall.SIGKILL)
	time.Sleep(1100 * time.Millisecond) // the deadline itself
	s.launch()
	if listed := s.list(); slices.Contains(listed, created.SandboxID) {
		t.Error("the sandbox is listed after its deadline has passed")
	}
	if status, body := s.call("GET", "/sandboxes/"+created.SandboxID, nil, "X-API-Key", fullKey); status != http.StatusNotFound {
		t.Errorf("after its deadline: %d %s", status, body)
	}
}

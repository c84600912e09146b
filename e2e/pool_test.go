package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestASandboxOfThePoolIsClaimed claims one that waited. It outlives the server,
// and what waited for a server that died does not.
func TestASandboxOfThePoolIsClaimed(t *testing.T) {
	s := start(t, "--pool-size", "1", "--spares", "0", "--admin-bind", "127.0.0.1:0") // no others in its directory
	spare := s.awaitSpare()
	run(t, s.environment("SPARE="+spare, "E2B_SANDBOX_URL="+s.url), "js", "node", "--test", "--test-timeout=180000", "pool.test.mjs")
	next := s.awaitSpare(spare)
	s.crash()
	after := s.awaitSpare(spare, next)
	if list := s.list(); !slices.Equal(list, []string{spare}) {
		t.Errorf("after a crash the sandboxes are %q, want the one that was claimed", list)
	}
	if status := s.health(spare); status != http.StatusNoContent {
		t.Errorf("after a crash the claimed one answers %d", status)
	}
	if err := poll(func() error {
		var err error
		for _, id := range names(filepath.Join(s.dir, "sandboxes")) {
			if id != spare && id != after {
				err = errors.Join(err, fmt.Errorf("%s is there still", id))
			}
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

var operatorsLine = regexp.MustCompile(`operators are answered" url=(\S+)`)

// awaitSpare waits until one waits in the pool, as the metrics tell, and returns it,
// which is none of the others.
func (s *server) awaitSpare(others ...string) (spare string) {
	s.t.Helper()
	err := poll(func() error {
		lines := operatorsLine.FindAllStringSubmatch(s.log.String(), -1)
		if len(lines) == 0 {
			return errors.New("operators are not answered yet")
		}
		beside := &server{t: s.t, url: lines[len(lines)-1][1], client: s.client}
		if _, metrics, err := beside.try("GET", "/metrics", nil); err != nil || !strings.Contains(string(metrics), "\ncube_sandboxes_pooled 1\n") {
			return fmt.Errorf("none waits: %w", err)
		}
		unknown := slices.DeleteFunc(names(filepath.Join(s.dir, "sandboxes")), func(id string) bool { return slices.Contains(others, id) })
		if len(unknown) != 1 {
			return fmt.Errorf("those that nobody knew are %q", unknown)
		}
		spare = unknown[0]
		return nil
	})
	must(s.t, err)
	return spare
}

package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// TestPeopleMeasureTheirOwnServer runs 'cube-api bench' against a server as
// against anybody's.
func TestPeopleMeasureTheirOwnServer(t *testing.T) {
	s := start(t, "--auth-callback-url", callback(t))
	bench := func(key string, more ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "../bin/cube-api", append([]string{"bench", "--url", s.url, "--api-key", key, "-n", "3", "--at-a-time", "2"}, more...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := bench(fullKey, "--json")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var result struct {
		Failed int
		Stages []struct {
			Stage    string
			N        int
			P50, Max float64
		}
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if result.Failed != 0 || len(result.Stages) != 4 {
		t.Errorf("the result is %s", out)
	}
	for _, stage := range result.Stages {
		if stage.N != 3 || stage.P50 <= 0 || stage.Max < stage.P50 {
			t.Errorf("%+v, want 3 times", stage)
		}
	}
	if left := s.list(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if out, err := bench(fullKey); err != nil || !strings.Contains(out, "3 of 3") || strings.Contains(out, "\x1b") {
		t.Errorf("without a terminal: %v: %s", err, out)
	}
	if out, err := bench(wrongKey); err == nil || !strings.Contains(out, "401") {
		t.Errorf("with a wrong key: %v: %s", err, out)
	}
}

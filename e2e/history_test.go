package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

type logEntry struct {
	Level, Message string
	Fields         map[string]string
}

// messages are those of a sandbox's log, by v2.
func (s *server) messages(id, query string) []string {
	s.t.Helper()
	status, body := s.call("GET", "/v2/sandboxes/"+id+"/logs?"+query, nil, "X-API-Key", fullKey)
	var answer struct{ Logs []logEntry }
	if err := json.Unmarshal(body, &answer); status != http.StatusOK || err != nil {
		s.t.Fatalf("the log: %d %s", status, body)
	}
	var list []string
	for _, e := range answer.Logs {
		list = append(list, e.Level+" "+e.Message)
	}
	return list
}

// eventually asks until it is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestWhatASandboxDidIsRemembered looks at metrics and logs as a dashboard does:
// while it runs, after the server was killed, and after its end.
func TestWhatASandboxDidIsRemembered(t *testing.T) {
	s := start(t)
	created := s.create()
	id := created.SandboxID
	s.shell(created, "user", "echo one; echo two >&2")
	eventually(t, "both lines and the end", func() bool {
		all := strings.Join(s.messages(id, ""), "|")
		return strings.Contains(all, "info one") && strings.Contains(all, "error two") && strings.Contains(all, "process ended")
	})
	if got := s.messages(id, "level=warn"); len(got) != 1 || got[0] != "error two" {
		t.Errorf("what matters: %q", got)
	}
	if got := s.messages(id, "search=on&level=info"); len(got) != 1 || got[0] != "info one" {
		t.Errorf("what was searched: %q", got)
	}
	if got := s.messages(id, "direction=backward&limit=1"); len(got) != 1 || !strings.HasPrefix(got[0], "debug process ended") {
		t.Errorf("the newest: %q", got)
	}
	type metric struct {
		TimestampUnix      int64
		MemTotal, DiskUsed int64
	}
	metrics := func(query string) (list []metric) {
		status, body := s.call("GET", "/sandboxes/"+id+"/metrics?"+query, nil, "X-API-Key", fullKey)
		if err := json.Unmarshal(body, &list); status != http.StatusOK || err != nil {
			t.Fatalf("metrics: %d %s", status, body)
		}
		return list
	}
	eventually(t, "a metric", func() bool { return len(metrics("")) > 0 })
	if m := metrics("")[0]; m.MemTotal != 1<<30 {
		t.Errorf("%+v", m)
	}
	if list := metrics(fmt.Sprintf("start=%d&end=%d", 1000, 2000)); len(list) != 0 {
		t.Errorf("long before it was there: %+v", list)
	}

	s.crash()
	s.shell(created, "user", "echo three")
	eventually(t, "a line after the crash", func() bool { return strings.Contains(strings.Join(s.messages(id, ""), "|"), "info three") })
	if n := strings.Count(strings.Join(s.messages(id, ""), "|"), "info one"); n != 1 {
		t.Errorf("the first line is there %d times", n)
	}
	s.kill(id)
	if got := s.messages(id, "search=three"); len(got) != 1 {
		t.Errorf("after its end: %q", got)
	}
	for path, want := range map[string]int{
		"/sandboxes/" + id + "/logs?limit=1001":       400,
		"/sandboxes/" + id + "/metrics?start=2&end=1": 400,
		"/v2/sandboxes/" + id + "/logs?direction=up":  400,
		"/v2/sandboxes/" + id + "/logs?level=loud":    400,
		"/sandboxes/i00000000000000000000/logs":       404,
		"/sandboxes/i00000000000000000000/metrics":    404,
		"/sandboxes/metrics?sandbox_ids=" + id:        200,
		"/teams":                                      200,
		"/teams/default/metrics":                      200,
		"/teams/default/metrics/max?metric=x":         400,
		"/teams/other/metrics":                        403,
	} {
		if status, body := s.call("GET", path, nil, "X-API-Key", fullKey); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
}

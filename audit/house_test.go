package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cube"
	"cube/auth/decision"
)

// TestMain fails when a writer is left behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustOpen(t testing.TB, c Config) *Log {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// outcome is a yes to a request with an id.
func outcome(request string) decision.Outcome {
	return decision.Outcome{
		Time: time.Date(2026, 11, 24, 1, 2, 3, 4000, time.UTC), RequestID: request, Method: "GET", Path: "/sandboxes", Remote: "127.0.0.1",
		Fingerprint: "f1", Identity: cube.Identity{Subject: "ann", Team: "blue", Key: "k1"},
		Source: decision.FromCache, Latency: 1500 * time.Nanosecond,
	}.Granted(decision.ReasonAllowed)
}

// read returns the records of a log that pass the filter, and how many lines
// are none.
func read(t testing.TB, dir string, f Filter) (records []Record, unreadable int) {
	t.Helper()
	unreadable, err := Read(t.Context(), dir, f, func(r *Record, _ []byte) error {
		records = append(records, *r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return records, unreadable
}

func requests(records []Record) string {
	var ids []string
	for _, r := range records {
		ids = append(ids, r.RequestID)
	}
	return strings.Join(ids, " ")
}

// lines returns the active file's lines, each checked to be one JSON object.
func lines(t testing.TB, dir string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, activeName))
	if err != nil {
		t.Fatal(err)
	}
	list := strings.SplitAfter(string(content), "\n")
	for _, line := range list[:len(list)-1] {
		if !json.Valid([]byte(line)) || strings.ContainsAny(line[:len(line)-1], "\n\r\x1b\u009b\u202e") {
			t.Errorf("this is no line of the log: %q", line)
		}
	}
	return list[:len(list)-1]
}

func export(t testing.TB, dir string, f Filter, format Format) string {
	t.Helper()
	var out bytes.Buffer
	if _, err := Export(context.Background(), &out, dir, f, format); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

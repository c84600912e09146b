package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"cube"
)

// TestLogsOfAllSandboxesTogetherAreBounded has many sandboxes print, which is how
// one account could fill the disk: each keeps to its own bound.
func TestLogsOfAllSandboxesTogetherAreBounded(t *testing.T) {
	store, err := Open(t.Context(), filepath.Join(t.TempDir(), "cube.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	const sandboxes, each, keepLines, keepOfAll = 10, atOnce, atOnce / 2, 2 * atOnce
	var all []Recorded
	for i := range sandboxes {
		r := Recorded{Sandbox: cube.SandboxID(fmt.Sprint(i)), Epoch: "e", Metric: cube.Metric{At: time.Unix(1, 0)}}
		for n := range each {
			r.Seqs = append(r.Seqs, uint64(n+1))
			r.Lines = append(r.Lines, cube.LogLine{At: time.Unix(int64(n), 0), Level: cube.LevelInfo, Message: fmt.Sprint(n)})
		}
		all = append(all, r)
	}
	if err := store.AddHistory(t.Context(), all, keepLines, keepOfAll); err != nil {
		t.Fatal(err)
	}
	total := 0
	for i := range sandboxes {
		id := cube.SandboxID(fmt.Sprint(i))
		lines, err := store.LogLines(t.Context(), id, cube.LogQuery{Limit: each})
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) > keepLines {
			t.Errorf("%d lines of sandbox %d are kept", len(lines), i)
		}
		if metrics, err := store.Metrics(t.Context(), id, time.Unix(0, 0), time.Unix(2, 0), 10); len(metrics) != 1 || err != nil {
			t.Errorf("the metrics of sandbox %d: %v, %v", i, metrics, err)
		}
		total += len(lines)
		if i == sandboxes-1 && (len(lines) != keepLines || lines[len(lines)-1].Message != fmt.Sprint(each-1)) {
			t.Errorf("of the last sandbox %d lines are kept", len(lines))
		}
	}
	if total > keepOfAll {
		t.Errorf("%d lines are kept of all", total)
	}
}

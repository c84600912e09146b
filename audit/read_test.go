package audit

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cube"
	"cube/gateway"
	"cube/lifecycle"
)

func TestFilters(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Config{Dir: dir, FileSize: 300})
	l.Decision(outcome("asked"))
	old := outcome("old")
	old.Time = old.Time.Add(-time.Hour)
	l.Decision(old)
	l.Lifecycle(t.Context(), lifecycle.Event{Kind: lifecycle.EventEnded, At: moment, Sandbox: "i1", Owner: cube.Owner{Subject: "cy", Team: "red"}})
	l.Inside(gateway.Operation{Time: moment, RequestID: "inside", Action: gateway.FileRead, Sandbox: "i2", Owner: cube.Owner{Subject: "ann"}})
	l.Inside(gateway.Operation{Time: moment, RequestID: "started", Action: gateway.ProcessStarted, Sandbox: "i2"})
	mustClose(t, l)
	for _, row := range []struct {
		name   string
		filter Filter
		want   string
	}{
		{"none", Filter{}, "asked old  inside started"},
		{"since", Filter{Since: moment}, "asked  inside started"},
		{"sandbox", Filter{Sandbox: "i2"}, "inside started"},
		{"key", Filter{Key: "k1"}, "asked old"},
		{"subject", Filter{Subject: "ann"}, "asked old inside"},
		{"team", Filter{Team: "blue"}, "asked old"},
		{"action", Filter{Action: "file.read"}, "inside"},
		{"actions", Filter{Action: "process"}, "started"},
		{"all", Filter{Since: moment, Key: "k1", Subject: "ann", Team: "blue", Action: "decision"}, "asked"},
		{"nothing", Filter{Sandbox: "i3"}, ""},
	} {
		if records, _ := read(t, dir, row.filter); requests(records) != row.want {
			t.Errorf("%s: %q, want %q", row.name, requests(records), row.want)
		}
	}
	if _, err := Read(t.Context(), dir, Filter{Action: "fil"}, nil); cube.KindOf(err) != cube.Invalid || !strings.Contains(err.Error(), "file.read") {
		t.Errorf("an action that is none: %v", err)
	}
	ended := export(t, dir, Filter{Sandbox: "i1"}, JSONL)
	if want := `{"time":"2026-11-24T01:02:03.000004Z","action":"sandbox.ended","outcome":"done","sandbox":"i1","owner_subject":"cy","owner_team":"red"}` + "\n"; ended != want {
		t.Errorf("exported %s, want %s", ended, want)
	}
}

func TestATableHasItsNamesEvenWithoutRows(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, Config{Dir: dir}))
	if table := export(t, dir, Filter{}, CSV); !strings.HasPrefix(table, "time,action,outcome,reason,") || strings.Count(table, "\n") != 1 {
		t.Errorf("table %q", table)
	}
}

func TestALogThatIsNotThere(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		_, err := Export(t.Context(), io.Discard, dir, Filter{}, CSV)
		if cube.KindOf(err) != cube.NotFound || !strings.Contains(err.Error(), "--audit") {
			t.Errorf("error %v, want one that says how to get a log", err)
		}
	}
}

func TestAFileThatIsMovedAsideIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Config{Dir: dir, FileSize: 1})
	for _, request := range []string{"1", "2"} {
		l.Decision(outcome(request))
	}
	mustClose(t, l)
	f, err := openFiles(dir, 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	all, err := openAll(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.moveAside(); err != nil { // after it was opened: what is open stays whole
		t.Fatal(err)
	}
	defer f.close()
	defer closeAll(all)
	active, err := openAll(dir)
	if err != nil || len(active) != len(all)+1 {
		t.Fatalf("%d files, %v; want one more than %d", len(active), err, len(all))
	}
	defer closeAll(active)
	if !isSame(all[len(all)-1], active[len(active)-2]) {
		t.Error("the file that was moved is not where it belongs")
	}
}

func TestAnExportEnds(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Config{Dir: dir})
	l.Decision(outcome("1"))
	mustClose(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Export(ctx, io.Discard, dir, Filter{}, JSONL); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after the end was asked for", err)
	}
	if _, err := Export(t.Context(), broken{}, dir, Filter{}, CSV); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v when nobody reads", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

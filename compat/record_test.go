package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReasonsFile(t *testing.T) {
	t.Parallel()
	table, err := readReasons()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range table {
		used := false
		for _, s := range suites {
			used = used || r.suite.MatchString(s.name())
		}
		if !used {
			t.Errorf("%v is no suite", r.suite)
		}
	}
}

func TestReasonsRefuses(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"js@.*\tx\tit is hard":              "is no reason",
		"js@.*\tx\tnot built yet: ":         "is no reason",
		"js@.*\tx":                          "write the suite",
		"(\tx\tneeds the real internet":     "missing",
		"js\t(\tneeds the real internet":    "missing",
		"js x\tneeds the real internet\t\t": "write the suite",
	} {
		if _, err := parseReasons(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

// What counts: a pass always, a failure unless it has a reason.
func TestCount(t *testing.T) {
	t.Parallel()
	table, err := parseReasons("# a comment\n\njs@2\\..*\tinternet\tneeds the real internet\n.*\tbuild\tnot built yet: builds\n")
	if err != nil {
		t.Fatal(err)
	}
	got := count(suite{label: "js", version: "2.51.0"}, measured{Results: []result{
		{"a", passed, ""}, {"internet passes", passed, ""}, {"internet fails", failed, ""}, {"build", skipped, ""},
		{"skipped", skipped, ""}, {"z", failed, ""}, {"b", failed, ""},
		{"tests/sync/sandbox_sync/test_fork › test_fork_invalid_count", failed, ""},
	}}, table)
	want := row{Suite: "js", Version: "2.51.0", Passed: 2, Failed: []string{"b", "z"}, NotCounted: map[string]string{
		"internet fails": needsInternet, "build": "not built yet: builds", "skipped": ofTheSuite,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := count(suite{label: "python", version: "2.8.1"}, measured{Results: []result{{"internet", failed, ""}}}, table); len(got.Failed) != 1 {
		t.Errorf("a reason of another suite was taken: %+v", got)
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	rows := merge(nil, row{Suite: "python", Version: "2.63.0", Passed: 1})
	rows = merge(rows, row{Suite: "js", Version: "2.51.0", Passed: 2})
	rows = merge(rows, row{Suite: "python", Version: "2.63.0", Passed: 3, Failed: []string{"x › y"}, NotCounted: map[string]string{"a": needsInternet, "b": needsInternet, "c": needsDatabase}})
	if len(rows) != 2 || rows[0].Suite != "js" || rows[1].Passed != 3 {
		t.Fatalf("%+v", rows)
	}
	page := place([]byte("# Page\n\ntext\n"), render(rows))
	for _, want := range []string{"# Page\n\ntext\n\n" + begin, "| Python SDK | 2.63.0 | 3 | 1 | 3: 1 needs E2B's private database; 2 needs the real internet |", "- `x › y`", end} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	again := place(append(page, "after\n"...), render(rows[:1]))
	if strings.Contains(string(again), "| Python SDK |") || strings.Count(string(again), begin) != 1 || !strings.HasSuffix(string(again), end+"after\n") {
		t.Errorf("the record was not replaced:\n%s", again)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	if got, err := choose([]string{"infra", "js@2.8.1"}); err != nil || len(got) != 2 || got[0].label != "infra" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := choose([]string{"js@1"}); err == nil || !strings.Contains(err.Error(), "js@2.51.0") {
		t.Error(err)
	}
}

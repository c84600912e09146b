package main

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cube"
	"cube/audit"
	"cube/auth/decision"
	"cube/gateway"
)

func TestTheAuditLogIsExported(t *testing.T) {
	dir := t.TempDir()
	l, err := audit.Open(audit.Config{Dir: audit.Dir(dir)})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	asked := decision.Outcome{Time: now.Add(-time.Hour), Path: "/=1", Identity: cube.Identity{Subject: "=ann", Team: "blue", Key: "k1"}}
	l.Decision(asked.Granted(decision.ReasonAllowed))
	l.Inside(gateway.Operation{Time: now, Sandbox: "i1", Action: gateway.ProcessStarted, Command: []string{"make", "a b"}, Status: 200})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args string
		want []string // a part of each line
	}{
		{"", []string{`"subject":"=ann"`, `["make","a b"]`}},
		{"--since=10m", []string{"make"}},
		{"--sandbox=i1 --action=process", []string{"make"}},
		{"--key=k1", []string{"=ann"}},
		{"--team=blue", []string{"=ann"}},
		{"--subject==ann", []string{"=ann"}},
		{"--subject=nobody", nil},
		{"--format=csv --key=k1", []string{"time,action", ",'=ann,blue,k1,"}},
	} {
		stdout, stderr, err := command(t, dir, append([]string{"audit", "export"}, strings.Fields(row.args)...)...)
		lines := strings.SplitAfter(stdout, "\n")
		lines = lines[:len(lines)-1]
		if err != nil || stderr != "" || len(lines) != len(row.want) {
			t.Errorf("%s: %q, %q, %v", row.args, stdout, stderr, err)
			continue
		}
		for i, want := range row.want {
			if !strings.Contains(lines[i], want) {
				t.Errorf("%s: line %d is %s, want %s in it", row.args, i, lines[i], want)
			}
		}
	}
	stdout, _, err := command(t, dir, "audit", "export", "--format=csv")
	if table, e := csv.NewReader(strings.NewReader(stdout)).ReadAll(); err != nil || e != nil || len(table) != 3 {
		t.Errorf("a table of %d rows, %v, %v", len(table), err, e)
	}

	name := filepath.Join(audit.Dir(dir), "audit.jsonl")
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append([]byte("{\"torn\":\n"), content...), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err := command(t, dir, "audit", "export")
	if err != nil || stdout != string(content) || !strings.Contains(stderr, "left out: 1.") {
		t.Errorf("with a torn line: %q, %q, %v", stdout, stderr, err)
	}
}

func TestAnExportThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"":             "--audit",
		"--since=-1h":  "such as 24h",
		"--action=x":   "process.started",
		"--format=xml": "jsonl",
	} {
		stdout, _, err := command(t, dir, append([]string{"audit", "export"}, strings.Fields(args)...)...)
		if err == nil || !strings.Contains(err.Error(), want) || stdout != "" {
			t.Errorf("%s: %q, %v; want an error with %q", args, stdout, err, want)
		}
	}
}

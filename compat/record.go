package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const (
	recordFile = "compat/record.json"
	pageFile   = "docs/compatibility.md"
	begin      = "<!-- record: written by 'make compat' -->\n"
	end        = "<!-- end of the record -->\n"
)

// row is what came out of one suite.
type row struct {
	Suite      string            `json:"suite"`
	Version    string            `json:"version,omitempty"`
	Date       string            `json:"date"`
	Commit     string            `json:"commit"`
	Machine    string            `json:"machine"`
	Passed     int               `json:"passed"`
	Failed     []string          `json:"failed,omitempty"`
	NotCounted map[string]string `json:"notCounted,omitempty"` // by test, why
}

// write puts a row into the record and writes the page anew.
func write(r row) error {
	var rows []row
	data, err := os.ReadFile(recordFile)
	if err == nil {
		err = json.Unmarshal(data, &rows)
	}
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("%s: %w", recordFile, err)
	}
	rows = merge(rows, r)
	data, err = json.MarshalIndent(rows, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(recordFile, append(data, '\n'), 0o644); err != nil {
		return err
	}
	page, err := os.ReadFile(pageFile)
	if err != nil {
		return err
	}
	return os.WriteFile(pageFile, place(page, render(rows)), 0o644)
}

// merge replaces the row of the same suite, or adds it, in the suites' order.
func merge(rows []row, r row) []row {
	order := func(r row) int {
		i := slices.IndexFunc(suites, func(s suite) bool { return s.label == r.Suite && s.version == r.Version })
		if i < 0 {
			return len(suites)
		}
		return i
	}
	rows = slices.DeleteFunc(slices.Clone(rows), func(old row) bool { return old.Suite == r.Suite && old.Version == r.Version })
	rows = append(rows, r)
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(order(a), order(b)) })
	return rows
}

// place puts the record between its marks, or at the end of a page without.
func place(page []byte, record string) []byte {
	text := string(bytes.TrimRight(page, "\n")) + "\n"
	before, rest, found := strings.Cut(text, begin)
	if !found {
		return []byte(text + "\n" + begin + record + end)
	}
	_, after, _ := strings.Cut(rest, end)
	return []byte(before + begin + record + end + after)
}

// render is the record as a section of the page.
func render(rows []row) string {
	var b strings.Builder
	b.WriteString("## The record\n\nE2B's own test suites, unmodified, against this server. A test that does not pass counts as failed unless it needs what no test of one machine can have, or what is not built yet: the last column says how many of which. Left out are tests that ask no server, and two of infra's that ask an inner service of that server. They run on an internet of their own, under the names and addresses that the tests ask for, whose authority the server's machine trusts; nothing of them leaves the machine. JS 2.51.0 and Python 2.51.0 and 2.63.0 run the tests of 2.45, the newest that are public; the CLI 2.19.0 those of 2.17.1, code-interpreter those of 2.7.1 and 2.9.1. `make compat E2B=… INFRA=… INTERPRETER=… ROOTFS=…` writes this.\n\n")
	b.WriteString("| Suite | Version | Passed | Failed | Does not count | Tested |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %s | %s, %s |\n", title(r.Suite), cmp.Or(r.Version, "–"), r.Passed, len(r.Failed), notCounted(r), r.Date, r.Commit)
	}
	machines := map[string]bool{}
	for _, r := range rows {
		machines[r.Machine] = true
	}
	for name := range machines {
		fmt.Fprintf(&b, "\nMachine: %s.\n", name)
	}
	for _, r := range rows {
		if len(r.Failed) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n<details><summary>%s %s: failed</summary>\n\n", title(r.Suite), r.Version)
		for _, name := range r.Failed {
			fmt.Fprintf(&b, "- `%s`\n", name)
		}
		b.WriteString("\n</details>\n")
	}
	return b.String()
}

func title(suite string) string {
	return map[string]string{"js": "JS SDK", "python": "Python SDK", "cli": "CLI", "infra": "infra, integration",
		"code-interpreter-js": "code-interpreter, JS", "code-interpreter-python": "code-interpreter, Python"}[suite]
}

// notCounted is "25: 20 need …, 5 …".
func notCounted(r row) string {
	if len(r.NotCounted) == 0 {
		return "0"
	}
	counts := map[string]int{}
	for _, why := range r.NotCounted {
		counts[why]++
	}
	var parts []string
	for why, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, why))
	}
	slices.SortFunc(parts, strings.Compare)
	return fmt.Sprintf("%d: %s", len(r.NotCounted), strings.Join(parts, "; "))
}

// commit is what is tested, as the server itself has it.
func commit(ctx context.Context, server string) string {
	out, err := exec.CommandContext(ctx, server, "version").Output()
	words := strings.Fields(string(out))
	if err != nil || len(words) == 0 {
		return "unknown"
	}
	return words[len(words)-1]
}

// machine says what the tests ran on.
func machine() string {
	model := "unknown processor"
	cpus := 0
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(line, ":")
			if strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				cpus++
			}
		}
	}
	return fmt.Sprintf("%d × %s", cpus, model)
}

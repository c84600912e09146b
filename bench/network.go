package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// networkBenchmarks are Go's own, by package: what goes through the gate beside
// what does not, and rules for one sandbox among many.
var networkBenchmarks = []struct{ pkg, pattern string }{
	{"./network/gate", "^Benchmark(Download|RoundTrip|Connect|Question)$"},
	{"./engine/gvisor", "^Benchmark(Policy|Traffic)"},
}

// networkRows are what of them is reported, and in which unit: without one, the
// time of one operation.
var networkRows = map[string]struct{ name, unit string }{
	"Download/direct":      {"download, one connection, without the gate", "Gbit/s"},
	"Download/gate":        {"download, one connection, through the gate", "Gbit/s"},
	"RoundTrip/direct":     {"a byte there and one back, without the gate", ""},
	"RoundTrip/gate":       {"a byte there and one back, through the gate", ""},
	"Connect/direct":       {"connection and first byte, without the gate", ""},
	"Connect/gate":         {"connection and first byte, through the gate", ""},
	"Question":             {"a DNS question that is remembered", ""},
	"Traffic/none":         {"download by a sandbox, without rules", "Gbit/s"},
	"Traffic/addresses":    {"download by a sandbox, with 50 ranges", "Gbit/s"},
	"Traffic/names":        {"download by a sandbox, by a name", "Gbit/s"},
	"PolicyOfANewOne":      {"rules of a new sandbox", ""},
	"PolicyOfOneAmongMany": {"new rules of one of 1,000 with 50 each", ""},
}

// measureNetwork runs them. They need no server, but Go and root.
func measureNetwork(ctx context.Context, _ *server, _ options, add func(...result)) error {
	for _, b := range networkBenchmarks {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", b.pattern, b.pkg)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("go test -bench %s %s: %w\n%s", b.pattern, b.pkg, err, out)
		}
		for line := range strings.Lines(string(out)) {
			if row, ok := benchmarkRow(line); ok {
				add(row)
			}
		}
	}
	return nil
}

// benchmarkRow reads a line that a Go benchmark prints: its name, how often, and
// pairs of a figure and its unit.
func benchmarkRow(line string) (result, bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 {
		return result{}, false
	}
	name := strings.TrimPrefix(fields[0], "Benchmark")
	if at := strings.LastIndexByte(name, '-'); at > 0 { // the number of processors
		name = name[:at]
	}
	row, ok := networkRows[name]
	n, err := strconv.Atoi(fields[1])
	if !ok || err != nil {
		return result{}, false
	}
	for i := 2; i+1 < len(fields); i += 2 {
		figure, err := strconv.ParseFloat(fields[i], 64)
		switch {
		case err != nil:
		case row.unit == "" && fields[i+1] == "ns/op":
			return result{Name: row.name, N: n, P50: figure / 1000, Unit: "µs", Comment: "mean"}, true
		case row.unit != "" && fields[i+1] == row.unit:
			return result{Name: row.name, N: n, P50: figure, Unit: row.unit}, true
		}
	}
	return result{}, false
}

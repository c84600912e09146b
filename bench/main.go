// Command bench measures the server as its users meet it, and prints
// percentiles: creation of sandboxes at several concurrencies, commands through
// the official SDK, memory of idle sandboxes, and beside them, in the same run
// and on the same root file system, a bare `runc run` and `bwrap`; a template's
// build beside an image's by buildah.
//
// It starts bin/cube-api itself, on loopback with a data directory of its own,
// and needs root. Results go to standard output as text and, with -o, to a file
// as JSON with the machine's description. See README.md in this folder.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.only, "only", "", "measure only what the names in this comma-separated list begin with: create, pool, state (which is pause, snapshot, fork), sdk, memory, network, bare, build")
	flag.IntVar(&o.n, "n", 100, "creations at each concurrency")
	flag.StringVar(&o.out, "o", "", "also write the results to this file, as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	only string
	n    int
	out  string
}

// wants tells whether a measurement was asked for.
func (o options) wants(name string) bool {
	asked := strings.Split(o.only, ",")
	state := name == "pause" || name == "snapshot" || name == "fork"
	return o.only == "" || slices.Contains(asked, name) || state && slices.Contains(asked, "state")
}

// report is what is written.
type report struct {
	When    time.Time
	Machine machine
	Results []result
}

type machine struct {
	Processor string
	Cores     int
	MemoryMB  int
	Kernel    string
}

// result is one row: a name, and percentiles of times or a single figure.
type result struct {
	Name string
	// Series and X place a row in a picture: see plot.
	Series  string  `json:",omitempty"`
	X       float64 `json:",omitempty"`
	N       int     `json:",omitempty"`
	Failed  int     `json:",omitempty"`
	P50     float64 `json:",omitempty"`
	P95     float64 `json:",omitempty"`
	P99     float64 `json:",omitempty"`
	Unit    string
	Comment string `json:",omitempty"`
}

func run(ctx context.Context, o options) error {
	r := report{When: time.Now().UTC(), Machine: describeMachine()}
	fmt.Printf("%s, %d cores, %d MiB, Linux %s\n", r.Machine.Processor, r.Machine.Cores, r.Machine.MemoryMB, r.Machine.Kernel)
	fmt.Printf("%-52s %6s %8s %8s %8s  %s\n", "", "n", "p50", "p95", "p99", "")
	add := func(results ...result) {
		for _, x := range results {
			r.Results = append(r.Results, x)
			failed := ""
			if x.Failed > 0 {
				failed = fmt.Sprintf("%d FAILED ", x.Failed)
			}
			fmt.Printf("%-52s %6d %8.1f %8.1f %8.1f  %s %s%s\n", x.Name, x.N, x.P50, x.P95, x.P99, x.Unit, failed, x.Comment)
		}
	}
	s, err := startServer(ctx, "--pool-size", "0")
	if err != nil {
		return err
	}
	defer s.stop()
	for _, step := range []struct {
		name    string
		measure func(context.Context, *server, options, func(...result)) error
	}{
		{"create", measureCreate},
		{"pool", measurePool},
		{"pause", measurePauses},
		{"snapshot", measureSnapshot},
		{"fork", measureFork},
		{"sdk", measureSDK},
		{"memory", measureMemory},
		{"network", measureNetwork},
		{"bare", measureBare},
		{"build", measureBuild},
	} {
		if !o.wants(step.name) {
			continue
		}
		if err := step.measure(ctx, s, o, add); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if o.out == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, append(data, '\n'), 0o644)
}

// milliseconds makes a row of times.
func milliseconds(name string, times []time.Duration, failed int) result {
	slices.Sort(times)
	at := func(p float64) float64 {
		if len(times) == 0 {
			return 0
		}
		// The nearest rank: the smallest time that p of all do not exceed.
		rank := min(len(times)-1, int(p*float64(len(times))))
		return float64(times[rank].Microseconds()) / 1000
	}
	return result{Name: name, N: len(times), Failed: failed, P50: at(0.50), P95: at(0.95), P99: at(0.99), Unit: "ms"}
}

func describeMachine() machine {
	m := machine{Cores: runtime.NumCPU()}
	m.Processor = field("/proc/cpuinfo", "model name")
	kib, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	if n, err := strconv.Atoi(kib); err == nil {
		m.MemoryMB = n >> 10
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	return m
}

// field returns the first value of "name : value" in a file.
func field(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

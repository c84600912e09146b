// Command auth measures the door beside three proxies that ask a service in the
// same way: nginx with auth_request, Caddy with forward_auth, Traefik with
// ForwardAuth. All stand before the same backend and ask the same auth service;
// the load is the same, and goes to them by turns in one run. It prints tables:
// speed, behaviour with a broken service, and attacks.
//
// It must favour nobody: what is set for one is set for all who can, and the
// configurations are printed. It listens on loopback only. See README.md in this
// folder.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type options struct {
	only       string
	systems    string
	rivals     string
	runs       int
	rate       int
	latency    time.Duration
	saturation time.Duration
	callers    int
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "door" {
		exitOn(runDoor(os.Args[2:]))
		return
	}
	var o options
	flag.StringVar(&o.only, "only", "speed,trouble,attacks", "parts to run, in a comma-separated list")
	flag.StringVar(&o.systems, "systems", "cube,nginx,caddy,traefik", "systems to measure, in a comma-separated list")
	flag.StringVar(&o.rivals, "rivals", "bin/rivals", "folder of the built rivals; one that is not there is left out")
	flag.IntVar(&o.runs, "runs", 5, "runs through all systems")
	flag.IntVar(&o.rate, "rate", 1000, "requests a second when latency is measured")
	flag.DurationVar(&o.latency, "latency", 2*time.Second, "time for which latency is measured, in each run")
	flag.DurationVar(&o.saturation, "saturation", 1500*time.Millisecond, "time for which throughput is measured, in each run")
	flag.IntVar(&o.callers, "callers", 10_000, "callers on one key at once, or as many as the limit of open files allows")
	flag.Parse()
	exitOn(pin())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exitOn(run(ctx, o))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/auth:", err)
		os.Exit(1)
	}
}

// The cores: a system under test has one for itself, and everything else is on
// the other.
const (
	systemCore = 0
	othersCore = 1
)

// pin starts this program again on one core, with the open files that thousands
// of callers need, here and in the systems.
func pin() error {
	var cores unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cores); err != nil {
		return err
	}
	if cores.Count() == 1 {
		return nil
	}
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return fmt.Errorf("%w: install Debian's package util-linux", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Where this is not allowed there are fewer callers.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 200_000, Max: 200_000})
	return syscall.Exec(taskset, append([]string{taskset, "-c", strconv.Itoa(othersCore), self}, os.Args[1:]...), os.Environ())
}

func run(ctx context.Context, o options) error {
	// The load has a thread of its own. The service and the backend must go on
	// while it is in the kernel, and no collection of garbage may stop them.
	runtime.GOMAXPROCS(4)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(4 << 30)
	describe(o)
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	b.describe()
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"speed", b.speed}, {"trouble", b.trouble}, {"attacks", b.attacks},
	} {
		if !slices.Contains(strings.Split(o.only, ","), part.name) {
			continue
		}
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	fmt.Printf("\nEnded %s, load average %s.\n", time.Now().UTC().Format(time.RFC3339), firstLine("/proc/loadavg"))
	return nil
}

// describe says where and how this was measured.
func describe(o options) {
	fmt.Printf("%s, %s, Linux %s. Load average before: %s.\n", time.Now().UTC().Format(time.RFC3339), processor(),
		firstLine("/proc/sys/kernel/osrelease"), firstLine("/proc/loadavg"))
	fmt.Printf("The system under test on core %d, alone; load, auth service and backend together on core %d. "+
		"%d runs by turns; latency at %d requests a second, open loop, from the intended time on, for %s; throughput with %d connections for %s.\n",
		systemCore, othersCore, o.runs, o.rate, o.latency, saturationConnections, o.saturation)
}

func processor() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	name, cores := "unknown processor", 0
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "model name" {
			name = strings.TrimSpace(value)
			cores++
		}
	}
	return fmt.Sprintf("%s, %d cores", name, cores)
}

func firstLine(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

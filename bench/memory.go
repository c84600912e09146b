package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// idleAfter is when a sandbox that does nothing counts as idle.
const idleAfter = 15 * time.Second

// measureMemory reports the proportional set size of idle sandboxes: each
// process's own pages, and its share of those that it shares.
func measureMemory(ctx context.Context, s *server, _ options, add func(...result)) error {
	running := 0
	defer func() {
		if ids, err := s.list(); err == nil {
			for _, id := range ids {
				_ = s.kill(id)
			}
		}
	}()
	before, err := availableMemory()
	if err != nil {
		return err
	}
	for _, count := range []int{1, 50, 200, 500} {
		for ; running < count; running++ {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, _, err := s.create(); err != nil {
				return err
			}
		}
		select { // what a start needed is given back a little later
		case <-time.After(idleAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
		ids, err := s.list()
		if err != nil {
			return err
		}
		total, processes, err := sandboxMemory(ids)
		if err != nil {
			return err
		}
		answer, err := s.answering(ctx)
		if err != nil {
			return err
		}
		each := float64(total) / 1024 / float64(count)
		available, err := availableMemory()
		if err != nil {
			return err
		}
		add(result{
			Name: fmt.Sprintf("memory of an idle sandbox, of %d", count), N: count, Series: "memory", X: float64(count), P50: each, Unit: "MiB",
			Comment: fmt.Sprintf("proportional set size, %d processes each; %d of %d answer", processes/count, answer, count),
		})
		if count == 1 {
			continue // one is less than what the rest of the machine does meanwhile
		}
		add(result{
			Name: fmt.Sprintf("memory that is no longer available, of %d", count), N: count, Series: "available", X: float64(count),
			P50: float64(before-available) / 1024 / float64(count), Unit: "MiB", Comment: "by /proc/meminfo, the kernel's part included",
		})
	}
	return nil
}

// answering counts the sandboxes that run a command.
func (s *server) answering(ctx context.Context) (n int, err error) {
	ids, err := s.list()
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if s.command(ctx, id, "true", false) == nil {
			n++
		}
	}
	return n, nil
}

// availableMemory is what the machine could still give, in KiB.
func availableMemory() (kib int, err error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		if _, err := fmt.Sscanf(string(line), "MemAvailable: %d kB", &kib); err == nil {
			return kib, nil
		}
	}
	return 0, errors.New("/proc/meminfo does not say what is available")
}

// sandboxMemory sums the proportional set sizes, in KiB, of the processes that
// are in the control groups of sandboxes. gVisor runs the threads of a
// process inside as processes that share one memory: that is counted once.
func sandboxMemory(ids []string) (kib, processes int, err error) {
	for _, id := range ids {
		pids, err := processesOf(id)
		if err != nil {
			return 0, 0, err
		}
		processes += len(pids)
		for i, pid := range pids {
			if slices.ContainsFunc(pids[:i], func(other int) bool { return shareMemory(pid, other) }) {
				continue
			}
			rollup, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
			if err != nil {
				continue // it just ended
			}
			for line := range bytes.Lines(rollup) {
				var n int
				if _, err := fmt.Sscanf(string(line), "Pss: %d kB", &n); err == nil {
					kib += n
				}
			}
		}
	}
	return kib, processes, nil
}

// processesOf are those in the control groups of a sandbox, each once.
func processesOf(id string) (pids []int, err error) {
	groups, _ := filepath.Glob("/sys/fs/cgroup/cube*/" + id)
	v1, _ := filepath.Glob("/sys/fs/cgroup/memory/cube*/" + id)
	for _, group := range append(groups, v1...) {
		lines, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Fields(string(lines)) {
			pid, err := strconv.Atoi(line)
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// shareMemory tells whether two processes have one address space (kcmp(2)).
func shareMemory(a, b int) bool {
	const kcmpVM = 1
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return errno == 0 && order == 0
}

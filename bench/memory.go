package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

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
	for _, count := range []int{1, 50, 200} {
		for ; running < count; running++ {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, _, err := s.create(); err != nil {
				return err
			}
		}
		total, processes, err := sandboxMemory(s.dir)
		if err != nil {
			return err
		}
		each := float64(total) / 1024 / float64(count)
		add(result{
			Name: fmt.Sprintf("memory of an idle sandbox, of %d", count), N: count, P50: each, Unit: "MiB",
			Comment: fmt.Sprintf("proportional set size, %d processes each", processes/count),
		})
	}
	return nil
}

// sandboxMemory sums the proportional set sizes, in KiB, of the processes that
// are in control groups of the server's sandboxes.
func sandboxMemory(dataDir string) (kib, processes int, err error) {
	dirs, err := filepath.Glob(filepath.Join(dataDir, "sandboxes", "*"))
	if err != nil {
		return 0, 0, err
	}
	for _, dir := range dirs {
		id := filepath.Base(dir)
		groups, _ := filepath.Glob("/sys/fs/cgroup/cube*/" + id)
		v1, _ := filepath.Glob("/sys/fs/cgroup/memory/cube*/" + id)
		for _, group := range append(groups, v1...) {
			pids, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
			if err != nil {
				return 0, 0, err
			}
			for _, pid := range strings.Fields(string(pids)) {
				rollup, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
				if err != nil {
					continue // it just ended
				}
				processes++
				for line := range bytes.Lines(rollup) {
					var n int
					if _, err := fmt.Sscanf(string(line), "Pss: %d kB", &n); err == nil {
						kib += n
					}
				}
			}
		}
	}
	return kib, processes, nil
}

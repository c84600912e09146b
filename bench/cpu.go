package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cube/engine/gvisor/launch"
)

// cpuGroups counts the processor time of a server and of all that it starts: the
// control group that it is put into, and that which it makes for its sandboxes.
// Both count what ended in them.
type cpuGroups struct {
	server, sandboxes string // directories; "" where the machine has no counter
}

// countCPU puts a server that has just started into a group of its own.
func countCPU(pid int, dataDir string) (cpuGroups, error) {
	root := "/sys/fs/cgroup/cpuacct"
	if _, err := os.Stat(root); err != nil {
		root = "/sys/fs/cgroup"
	}
	g := cpuGroups{
		server:    filepath.Join(root, fmt.Sprintf("bench-%d", pid)),
		sandboxes: filepath.Join(root, launch.Name(dataDir)),
	}
	if err := os.Mkdir(g.server, 0o755); err != nil {
		return cpuGroups{}, err
	}
	return g, os.WriteFile(filepath.Join(g.server, "cgroup.procs"), fmt.Append(nil, pid), 0)
}

// used is how much has been used so far.
func (g cpuGroups) used() (time.Duration, error) {
	server, err := usedBy(g.server)
	sandboxes, other := usedBy(g.sandboxes)
	return server + sandboxes, errors.Join(err, other)
}

func usedBy(dir string) (time.Duration, error) {
	if data, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage")); err == nil {
		var nanoseconds int64
		_, err = fmt.Sscan(string(bytes.TrimSpace(data)), &nanoseconds)
		return time.Duration(nanoseconds), err
	}
	data, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	var microseconds int64
	_, err = fmt.Sscanf(string(data), "usage_usec %d", &microseconds)
	return time.Duration(microseconds) * time.Microsecond, err
}

// each is the processor time of one of n, for a row's comment.
func (g cpuGroups) each(before time.Duration, n int) string {
	after, err := g.used()
	if err != nil {
		return "processor time not counted: " + err.Error()
	}
	return fmt.Sprintf("%.0f ms of processor time each", float64((after-before).Microseconds())/1000/float64(max(1, n)))
}

// remove removes the server's group when the server has ended.
func (g cpuGroups) remove() {
	for range 100 { // the kernel says busy for a moment
		if err := os.Remove(g.server); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

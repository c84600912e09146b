package gvisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cube"
)

// cgroups are the control groups of one server's sandboxes: a group each, in
// every hierarchy that is needed (one with version 2, one a controller with
// version 1). Every process of a sandbox is in its group from before it does
// anything, so the group is also how all of them are found and killed.
//
// It needs root: control groups belong to root unless delegated.
type cgroups struct {
	version int
	dirs    map[string]string // by controller: the directory that holds the sandboxes' groups
}

// controllers are those that we set or read. Version 2 has cpuacct within cpu.
var controllers = []string{"cpu", "cpuacct", "memory", "pids"}

const cgroupPeriod = 100_000 // microseconds: the kernel's default

// openCgroups finds the hierarchies and makes the directory name in each.
func openCgroups(name string) (*cgroups, error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return nil, err
	}
	c := &cgroups{version: 1, dirs: map[string]string{}}
	for _, controller := range controllers {
		if mount, ok := mounts[controller]; ok {
			c.dirs[controller] = filepath.Join(mount, name)
		}
	}
	if unified, ok := mounts["unified"]; ok && len(c.dirs) == 0 {
		c.version = 2
		for _, controller := range controllers {
			c.dirs[controller] = filepath.Join(unified, name)
		}
	}
	if len(c.dirs) < len(controllers) {
		return nil, fmt.Errorf("no control groups for cpu, memory and pids: mount cgroup2 on /sys/fs/cgroup, or the version 1 controllers below it")
	}
	for _, dir := range c.hierarchies() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("making a control group (the server must run as root, and /sys/fs/cgroup must be writable): %w", err)
		}
		if c.version == 2 {
			for _, d := range []string{filepath.Dir(dir), dir} {
				if err := writeControl(filepath.Join(d, "cgroup.subtree_control"), "+cpu +memory +pids"); err != nil {
					return nil, fmt.Errorf("enabling the controllers cpu, memory and pids: %w", err)
				}
			}
		}
	}
	return c, nil
}

// cgroupMounts returns where each version 1 controller is mounted, and version
// 2 under the name "unified".
func cgroupMounts() (map[string]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	mounts := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		// proc(5): id parent device root mountpoint options … - type source superoptions
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, more := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(more) < 3 {
			continue
		}
		switch more[0] {
		case "cgroup2":
			mounts["unified"] = fields[4]
		case "cgroup":
			for _, option := range strings.Split(more[2], ",") {
				if slices.Contains(controllers, option) {
					mounts[option] = fields[4]
				}
			}
		}
	}
	return mounts, lines.Err()
}

// hierarchies returns the directories of dirs, each once.
func (c *cgroups) hierarchies() []string {
	var dirs []string
	for _, dir := range c.dirs {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// create makes a sandbox's group with its limits.
func (c *cgroups) create(id cube.SandboxID, r cube.Resources) error {
	for _, dir := range c.hierarchies() {
		if err := os.Mkdir(filepath.Join(dir, string(id)), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	memory := strconv.FormatInt(int64(r.MemoryMB)<<20, 10)
	quota := strconv.Itoa(r.CPUs * cgroupPeriod)
	// Processes and threads of the host: one of the code inside has up to two (its
	// stub, and the thread that runs it), beside
	// those of the sandbox's kernel and of the process that creates it.
	pids := strconv.Itoa(3*r.Pids + 256)
	if c.version == 2 {
		return errors.Join(
			c.write("cpu", id, "cpu.max", quota+" "+strconv.Itoa(cgroupPeriod)),
			c.write("memory", id, "memory.max", memory),
			c.write("memory", id, "memory.oom.group", "1"),
			ignoreMissing(c.write("memory", id, "memory.swap.max", "0")),
			c.write("pids", id, "pids.max", pids),
		)
	}
	return errors.Join(
		c.write("cpu", id, "cpu.cfs_period_us", strconv.Itoa(cgroupPeriod)),
		c.write("cpu", id, "cpu.cfs_quota_us", quota),
		c.write("memory", id, "memory.limit_in_bytes", memory),
		ignoreMissing(c.write("memory", id, "memory.swappiness", "0")),
		c.write("pids", id, "pids.max", pids),
	)
}

// add moves a process into a sandbox's group.
func (c *cgroups) add(id cube.SandboxID, pid int) error {
	for _, dir := range c.hierarchies() {
		if err := writeControl(filepath.Join(dir, string(id), "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("moving a process into its control group: %w", err)
		}
	}
	return nil
}

// rename gives a sandbox's group, with what is in it, another name. Version 2 does
// not know how: there its processes move to a new one, and what memory they have
// by then stays uncounted.
func (c *cgroups) rename(ctx context.Context, from, to cube.SandboxID, r cube.Resources) error {
	if c.version == 2 {
		if err := c.create(to, r); err != nil {
			return err
		}
		return c.move(ctx, from, to)
	}
	for _, dir := range c.hierarchies() {
		if err := os.Rename(filepath.Join(dir, string(from)), filepath.Join(dir, string(to))); err != nil {
			return err
		}
	}
	return nil
}

// move moves every process of a group to another, and removes the first.
func (c *cgroups) move(ctx context.Context, from, to cube.SandboxID) error {
	for ctx.Err() == nil {
		pids, err := c.pids(from)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return c.remove(ctx, from)
		}
		for _, pid := range pids {
			if err := c.add(to, pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return ctx.Err()
}

// What groups get of the processors when there are too few, as a part of each
// other: weigh.
const (
	usualWeight = 100
	spareWeight = 5
)

// weigh sets a group's weight.
func (c *cgroups) weigh(id cube.SandboxID, weight int) error {
	if c.version == 2 {
		return c.write("cpu", id, "cpu.weight", strconv.Itoa(weight))
	}
	return c.write("cpu", id, "cpu.shares", strconv.Itoa(1024*weight/usualWeight))
}

// kill ends every process in a sandbox's group and returns when none is left.
func (c *cgroups) kill(ctx context.Context, id cube.SandboxID) error {
	for {
		pids, err := c.pids(id)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := killAndWait(ctx, pid); err != nil {
				return err
			}
		}
	}
}

func (c *cgroups) pids(id cube.SandboxID) ([]int, error) {
	data, err := os.ReadFile(c.path("pids", id, "cgroup.procs"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, field := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// remove removes a sandbox's empty group.
func (c *cgroups) remove(ctx context.Context, id cube.SandboxID) error {
	for _, dir := range c.hierarchies() {
		for {
			err := unix.Rmdir(filepath.Join(dir, string(id)))
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			// The kernel says busy for a moment after the last process is gone.
			if !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("removing a control group: %w", err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("removing a control group: %w", err)
			case <-time.After(time.Millisecond):
			}
		}
	}
	return nil
}

// list returns the sandboxes that have a group in any hierarchy.
func (c *cgroups) list() ([]cube.SandboxID, error) {
	var ids []cube.SandboxID
	for _, dir := range c.hierarchies() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if id, err := cube.ParseSandboxID(entry.Name()); err == nil && entry.IsDir() && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// outOfMemory tells whether the kernel killed a process of the sandbox because
// of its memory limit.
func (c *cgroups) outOfMemory(id cube.SandboxID) bool {
	name := "memory.events"
	if c.version == 1 {
		name = "memory.oom_control"
	}
	data, err := os.ReadFile(c.path("memory", id, name))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			return count != "0"
		}
	}
	return false
}

// stats reads what the sandbox uses.
func (c *cgroups) stats(id cube.SandboxID) (cube.Stats, error) {
	var (
		s    cube.Stats
		err  error
		read = func(controller, name string) int64 {
			data, e := os.ReadFile(c.path(controller, id, name))
			if e != nil {
				err = errors.Join(err, e)
				return 0
			}
			// A file of one number, or of lines "name number" whose first is ours.
			fields := strings.Fields(string(data))
			for _, field := range fields[:min(2, len(fields))] {
				if n, e := strconv.ParseInt(field, 10, 64); e == nil {
					return n
				}
			}
			err = errors.Join(err, fmt.Errorf("no number in %s", name))
			return 0
		}
	)
	if c.version == 2 {
		s.CPU = time.Duration(read("cpu", "cpu.stat")) * time.Microsecond // its first line is usage_usec
		s.MemoryBytes = read("memory", "memory.current")
	} else {
		s.CPU = time.Duration(read("cpuacct", "cpuacct.usage")) * time.Nanosecond
		s.MemoryBytes = read("memory", "memory.usage_in_bytes")
	}
	s.Processes = int(read("pids", "pids.current"))
	return s, err
}

func (c *cgroups) path(controller string, id cube.SandboxID, name string) string {
	return filepath.Join(c.dirs[controller], string(id), name)
}

func (c *cgroups) write(controller string, id cube.SandboxID, name, value string) error {
	return writeControl(c.path(controller, id, name), value)
}

// writeControl writes to a file of the kernel's, which must be there.
func writeControl(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// close removes the directories that hold the groups, which must be empty.
func (c *cgroups) close() error {
	var err error
	for _, dir := range c.hierarchies() {
		if e := unix.Rmdir(dir); e != nil && !errors.Is(e, unix.ENOENT) {
			err = errors.Join(err, fmt.Errorf("removing a control group: %w", e))
		}
	}
	return err
}

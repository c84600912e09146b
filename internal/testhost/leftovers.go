package testhost

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Leftovers lists what there is of the sandboxes of the server that works on
// dataDir: processes, mounts, directories, and any sandbox's control groups and
// interfaces. Tests that use it do not run beside each other: 'go test -p 1'.
func Leftovers(dataDir string) []string {
	var left []string
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range processes {
		if cmdline, err := os.ReadFile(path); err == nil && bytes.Contains(cmdline, []byte(filepath.Join(dataDir, "sandboxes"))) {
			left = append(left, fmt.Sprintf("process %s: %s", path, bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, dataDir) {
				left = append(left, "mount "+line)
			}
		}
	}
	for _, pattern := range []string{
		"/sys/fs/cgroup/cube*/i*",   // version 2
		"/sys/fs/cgroup/*/cube*/i*", // version 1
		"/sys/class/net/cube*",
		filepath.Join(dataDir, "sandboxes", "*"),
	} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	return left
}

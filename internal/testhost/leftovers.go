package testhost

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"cube/engine/gvisor/launch"
)

// Leftovers lists what there is of the sandboxes of the server that works on
// dataDir: processes, mounts, control groups, interfaces, directories.
func Leftovers(dataDir string) []string {
	var left []string
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range processes {
		if cmdline, err := os.ReadFile(path); err == nil && bytes.Contains(cmdline, []byte(filepath.Join(dataDir, "sandboxes"))) {
			// Its group tells whose it is: it may have been made before that was known.
			group, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
			left = append(left, fmt.Sprintf("process %s: %s %s", path, bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}), bytes.ReplaceAll(group, []byte{'\n'}, []byte{' '})))
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, dataDir) {
				left = append(left, "mount "+line)
			}
		}
	}
	name := launch.Name(dataDir)
	for _, pattern := range []string{
		"/sys/fs/cgroup/" + name + "/i*",   // version 2
		"/sys/fs/cgroup/*/" + name + "/i*", // version 1
		filepath.Join(dataDir, "sandboxes", "*"),
	} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if strings.HasPrefix(i.Name, name) {
			left = append(left, "interface "+i.Name)
		}
	}
	return left
}

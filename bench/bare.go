package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// measureBare times `runc run` and `bwrap` of /bin/true on the root file system
// that sandboxes start from: neither is isolated as a sandbox is, both share
// the machine's kernel. They are Debian's packages runc and bubblewrap; one that
// is not installed is left out.
func measureBare(ctx context.Context, s *server, o options, add func(...result)) error {
	roots, err := filepath.Glob(filepath.Join(s.dir, "images", "base-[0-9a-f]*"))
	if err != nil {
		return err
	}
	if len(roots) != 1 {
		return fmt.Errorf("there are %d base images, not one", len(roots))
	}
	bundle, err := os.MkdirTemp("", "cube-bench-bundle")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bundle)
	if err := writeBundle(bundle, roots[0]); err != nil {
		return err
	}
	for _, tool := range []struct {
		name    string
		command func(i int) *exec.Cmd
	}{
		{"runc", func(i int) *exec.Cmd {
			return exec.CommandContext(ctx, "runc", "run", "--bundle", bundle, fmt.Sprintf("cube-bench-%d-%d", os.Getpid(), i))
		}},
		{"bwrap", func(int) *exec.Cmd {
			return exec.CommandContext(ctx, "bwrap", "--unshare-all", "--bind", roots[0], "/", "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "true")
		}},
	} {
		if _, err := exec.LookPath(tool.name); err != nil {
			add(result{Name: tool.name + ", run true", Comment: "not installed"})
			continue
		}
		var times []time.Duration
		failed := 0
		for i := range o.n {
			start := time.Now()
			if err := tool.command(i).Run(); err != nil {
				failed++
				continue
			}
			times = append(times, time.Since(start))
		}
		row := milliseconds(tool.name+", run true, one at a time", times, failed)
		row.Series = tool.name
		add(row)
	}
	return nil
}

// writeBundle writes the OCI bundle that runc runs.
func writeBundle(dir, root string) error {
	namespaces := []map[string]string{}
	for _, kind := range []string{"pid", "ipc", "uts", "mount", "network"} {
		namespaces = append(namespaces, map[string]string{"type": kind})
	}
	data, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.2",
		"process":    map[string]any{"args": []string{"/usr/bin/true"}, "cwd": "/", "user": map[string]int{"uid": 0, "gid": 0}},
		"root":       map[string]any{"path": root, "readonly": true},
		"mounts": []map[string]any{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
			{"destination": "/usr", "type": "bind", "source": "/usr", "options": []string{"rbind", "ro"}},
		},
		"linux": map[string]any{"namespaces": namespaces},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
}

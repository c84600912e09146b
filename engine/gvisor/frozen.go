package gvisor

import (
	"encoding/json"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
)

// thawed tells whether a sandbox surely runs on, by what gVisor has written down
// of it: that takes no process. While a helper is at work nothing is sure.
func (e *Engine) thawed(id cube.SandboxID) bool {
	dir, err := os.Open(e.dir(id))
	if err != nil {
		return false
	}
	defer dir.Close() // and with it the lock
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return false
	}
	data, err := os.ReadFile(filepath.Join(e.dir(id), launch.StateFile))
	if err != nil {
		return false
	}
	var state struct {
		Status string `json:"status"`
	}
	return json.Unmarshal(data, &state) == nil && state.Status == launch.StatusRunning
}

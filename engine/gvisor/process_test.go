package gvisor

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"cube/engine/gvisor/launch"
)

func TestAProcessIsFoundUntilItHasEnded(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	is, err := launch.FindProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	found, err := findProcess(is)
	if err != nil {
		t.Fatal(err)
	}
	found.close()
	if _, err := findProcess(launch.Process{PID: is.PID, StartTime: is.StartTime + 1}); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("another one with its id: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := findProcess(is); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("after its end: %v", err)
	}
}

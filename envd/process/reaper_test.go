package process

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// eventually waits for what happens in processes that nobody can wait for.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !happened(); {
		if time.Now().After(deadline) {
			t.Fatalf("in 20 seconds it did not come true that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// state returns the letter that /proc has for a process, 0 if it is gone.
func state(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, found := bytes.Cut(stat, []byte(") "))
	if err != nil || !found {
		return 0
	}
	return after[0]
}

// The test inherits orphans as the first process of a system does. What it
// collects would be any child of this program, so it runs alone.
func TestOrphansAreCollectedAndOurOwnAreLeftToTheirWaiter(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	kids, done, ended := newChildren(), make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); kids.collectOrphans(done) }()
	defer func() { close(done); <-ended }()

	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "{ read line <"+gate+"; } >/dev/null 2>&1 & echo $!; exit 7")
	cmd.Stdout = w
	if err := kids.start(func() (*exec.Cmd, error) { return cmd, cmd.Start() }); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if _, err := printed.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	var orphan int
	if _, err := fmt.Sscan(printed.String(), &orphan); err != nil {
		t.Fatal(err)
	}
	eventually(t, "our own has ended", func() bool { return state(cmd.Process.Pid) == 'Z' })
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan has ended", func() bool { s := state(orphan); return s == 'Z' || s == 0 })
	kids.collect()

	kids.wait(cmd)
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("our own ended with %d", code)
	}
	eventually(t, "the orphan is collected", func() bool { return state(orphan) == 0 })
}

// Package early is what cmd/runsc does before gVisor's packages prepare
// themselves, which takes each of a sandbox's five processes 4 ms of processor
// time. It imports next to nothing, so that it comes first: Go initialises what
// is ready in the order of its import path. It must stay so small.
package early

import (
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// parallelAfter is when a gofer has started, and may use all processors.
const parallelAfter = 300 * time.Millisecond

func init() {
	if len(os.Args) == 4 && os.Args[1] == "umount" && os.Args[2] == "--sync-fd=3" {
		os.Exit(unmount(3, os.Args[3]))
	}
	// A start is one thing after the other, and that Go looks for more to do
	// meanwhile is a quarter of its processor time. Boot itself says later how many
	// processors its sandbox has.
	switch {
	case slices.Contains(os.Args, "gofer"):
		all := runtime.GOMAXPROCS(1)
		time.AfterFunc(parallelAfter, func() { runtime.GOMAXPROCS(all) })
	case slices.Contains(os.Args, "boot"), slices.Contains(os.Args, "launch"):
		runtime.GOMAXPROCS(1)
	}
}

// unmount does what gVisor's command of that name does: it waits for a byte and
// detaches a directory. Boot starts it, and checks that the directory is gone.
func unmount(sync int, dir string) int {
	if n, err := unix.Read(sync, make([]byte, 1)); err != nil || n != 1 {
		return 1
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return 1
	}
	return 0
}

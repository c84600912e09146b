package gvisor

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
)

// watchAfter is when memory is compared that was too large to be before the
// sandbox ran: not while its kernel reads it, and its user waits for an answer.
const watchAfter = 2 * time.Second

// watchMemory compares what a sandbox has been started from with its checksum,
// where that was too much to do before, and ends the sandbox if it differs. The
// files are opened at once, for the snapshot may be discarded meanwhile.
func (e *Engine) watchMemory(id cube.SandboxID, s *sandbox, snapshot *launch.Snapshot) {
	for _, f := range snapshot.Manifest.Files {
		if f.Size <= launch.Largest {
			continue
		}
		file, err := os.Open(filepath.Join(snapshot.Dir, f.Name))
		if err != nil {
			e.cfg.Log.Error("memory that a sandbox runs from could not be compared", "sandbox", id, "error", err)
			continue
		}
		e.checking.Go(func() {
			defer file.Close()
			select {
			case <-time.After(watchAfter):
			case <-e.closing.Done():
			}
			runtime.LockOSThread() // and never unlocked: the thread ends, with its low priority
			_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
			if err := f.Check(file); err != nil {
				e.endDamaged(id, s, err)
			}
		})
	}
}

// endDamaged ends s, and not what has its id by now.
func (e *Engine) endDamaged(id cube.SandboxID, s *sandbox, damage error) {
	s.stopping.Lock()
	defer s.stopping.Unlock()
	e.mu.Lock()
	is := e.sandboxes[id] == s
	s.damaged = is
	e.mu.Unlock()
	if !is {
		return
	}
	e.cfg.Log.Error("a sandbox runs from a damaged snapshot: it is ended", "sandbox", id, "error", damage)
	if err := e.cgroups.kill(context.Background(), id); err != nil {
		e.cfg.Log.Error("ending a sandbox that runs from a damaged snapshot", "sandbox", id, "error", err)
	}
}

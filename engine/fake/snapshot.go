package fake

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"

	"cube"
)

// snapshot is what a sandbox was when it was kept.
type snapshot struct {
	info     cube.SnapshotInfo
	settings *Settings // its agent's; nil without memory, or before the first
	files    []string
	boot     string // "" without memory

	using int // starts at work; guarded by Engine.mu
}

// use keeps a snapshot from being discarded, until unuse.
func (e *Engine) use(id cube.SnapshotID) (*snapshot, error) {
	if id == cube.BaseSnapshot {
		return &snapshot{}, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	snap := e.snapshots[id]
	if snap == nil {
		return nil, cube.Errorf(cube.NotFound, "there is no snapshot %q", id)
	}
	snap.using++
	return snap, nil
}

func (e *Engine) unuse(snap *snapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	snap.using--
}

// restore makes a new sandbox what the kept one was.
func (snap *snapshot) restore(s *sandbox) {
	s.files = slices.Clone(snap.files)
	s.boot = snap.boot
	if s.boot == "" {
		s.boot = rand.Text()
	}
	if snap.settings != nil {
		settings := *snap.settings
		s.agent.settings = &settings
	}
}

// Checkpoint implements cube.Engine.
func (e *Engine) Checkpoint(ctx context.Context, req cube.CheckpointRequest) (cube.SnapshotInfo, error) {
	s, thaw, err := e.freeze(req)
	if err != nil {
		return cube.SnapshotInfo{}, err
	}
	if e.OnCheckpoint != nil {
		err = e.OnCheckpoint(ctx, req)
	}
	if err == nil {
		err = ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && !s.running {
		err = notRunning(req.Sandbox)
	}
	if err != nil {
		thaw()
		return cube.SnapshotInfo{}, err
	}
	snap := &snapshot{info: cube.SnapshotInfo{ID: req.Snapshot, Memory: req.Memory, Bytes: 1 << 20}, files: slices.Clone(s.files)}
	if req.Memory {
		snap.boot = s.boot
		if settings, was := s.agent.current(); was {
			snap.settings = &settings
		}
	}
	if e.snapshots == nil {
		e.snapshots = map[cube.SnapshotID]*snapshot{}
	}
	e.snapshots[req.Snapshot] = snap
	return snap.info, nil
}

// freeze stops a running sandbox's servers. thaw is called with e.mu held.
func (e *Engine) freeze(req cube.CheckpointRequest) (s *sandbox, thaw func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s = e.sandboxes[req.Sandbox]
	switch {
	case s == nil || !s.running:
		return nil, nil, notRunning(req.Sandbox)
	case e.snapshots[req.Snapshot] != nil || req.Snapshot == cube.BaseSnapshot:
		return nil, nil, cube.Errorf(cube.Conflict, "the snapshot %s exists", req.Snapshot)
	case req.Layer && req.Memory:
		return nil, nil, cube.Errorf(cube.Invalid, "a layer holds no memory")
	case s.frozen():
		return nil, nil, cube.Errorf(cube.Internal, "sandbox %s is frozen already", req.Sandbox)
	}
	s.thawed = make(chan struct{})
	return s, s.thaw, nil
}

func (s *sandbox) frozen() bool {
	select {
	case <-s.thawed:
		return false
	default:
		return true
	}
}

func (s *sandbox) thaw() {
	if s.frozen() {
		close(s.thawed)
	}
}

// Thaw implements cube.Engine.
func (e *Engine) Thaw(_ context.Context, id cube.SandboxID) error {
	if e.OnThaw != nil {
		if err := e.OnThaw(id); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sandboxes[id]
	if s == nil || !s.running {
		return notRunning(id)
	}
	s.thaw()
	return nil
}

// Snapshots implements cube.Engine; the order is that of the ids.
func (e *Engine) Snapshots(context.Context) ([]cube.SnapshotInfo, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]cube.SnapshotInfo, 0, len(e.snapshots))
	for _, snap := range e.snapshots {
		list = append(list, snap.info)
	}
	slices.SortFunc(list, func(a, b cube.SnapshotInfo) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return list, nil
}

// Discard implements cube.Engine.
func (e *Engine) Discard(ctx context.Context, id cube.SnapshotID) error {
	if id == cube.BaseSnapshot {
		return cube.Errorf(cube.Invalid, "the snapshot %s belongs to the engine", id)
	}
	if e.OnDiscard != nil {
		if err := e.OnDiscard(ctx, id); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if snap := e.snapshots[id]; snap != nil && snap.using > 0 {
		return cube.Errorf(cube.Conflict, "a sandbox is just starting from the snapshot %s", id)
	}
	delete(e.snapshots, id)
	return nil
}

// unfrozen is a server that waits while its sandbox is frozen.
func (e *Engine) unfrozen(s *sandbox, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		thawed := s.thawed
		e.mu.Unlock()
		select {
		case <-thawed:
			handler.ServeHTTP(w, r)
		case <-s.dead:
		}
	})
}

// Frozen tells whether a sandbox runs and is frozen.
func (e *Engine) Frozen(id cube.SandboxID) bool {
	s := e.find(id)
	if s == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return s.frozen()
}

// Write adds a line to what a running sandbox has on its disk.
func (e *Engine) Write(id cube.SandboxID, line string) {
	if s := e.find(id); s != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		s.files = append(s.files, line)
	}
}

// Files returns what was written in a running sandbox, and before it was kept.
func (e *Engine) Files(id cube.SandboxID) []string {
	s := e.find(id)
	if s == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(s.files)
}

// Boot returns what stays the same in a sandbox as long as its memory does.
func (e *Engine) Boot(id cube.SandboxID) string {
	if s := e.find(id); s != nil {
		return s.boot
	}
	return ""
}

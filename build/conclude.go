package build

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"cube"
)

// keepBuilds is how many builds without a tag keep their files: their ids can be
// given tags again.
const keepBuilds = 3

// retryAfter is how long to wait before a write that failed is tried again.
const retryAfter = time.Second

// conclude writes what came of a build, and tries until it is written: else it
// would be building for ever. The next server does it if this one stops.
func (s *Service) conclude(j *job, result Result, failed error, took time.Duration) {
	b := j.build
	kind := EventFailed
	if failed == nil {
		kind = EventBuilt
		base, err := json.Marshal(result.Base)
		if err != nil {
			failed = err
		}
		b.Status = cube.BuildReady
		b.Snapshot, b.Memory, b.HostKey, b.Defaults = result.Snapshot, result.Memory, result.HostKey, result.Defaults
		b.BaseSnapshot, b.Base = result.Base.Snapshot, string(base)
		if b.BaseSnapshot == cube.BaseSnapshot {
			b.BaseSnapshot = ""
		}
	}
	if failed != nil {
		b.Status, b.Failure = cube.BuildError, s.reason(j, failed)
		s.log.Info("a template's build failed", "template", b.Template, "build", b.ID, "step", b.Failure.Step, "took", took, "error", failed)
	}
	j.log.close()
	for {
		b.UpdatedAt, b.FinishedAt = rowTime(), rowTime()
		write, cancel := bounded(s.ctx)
		err := s.store.UpdateBuild(write, cube.BuildBuilding, b)
		cancel()
		if err == nil {
			break
		}
		if k := cube.KindOf(err); k == cube.NotFound || k == cube.Conflict { // deleted meanwhile
			s.release(b.Snapshot, b.BaseSnapshot)
			return
		}
		s.log.Error("what came of a template's build cannot be written; that is tried again", "build", b.ID, "error", err)
		select {
		case <-time.After(retryAfter):
		case <-s.ctx.Done():
			return
		}
	}
	s.observe(context.WithoutCancel(s.ctx), kind, j.template, b.ID, took)
	if kind == EventBuilt {
		s.log.Info("a template was built", "template", b.Template, "build", b.ID, "memory", b.Memory, "took", took)
		s.sandboxes.Forget(b.Template)
		s.dropOld(b.Template)
	}
}

// reason says why a build failed: what ended it from outside, or its own mistake.
func (s *Service) reason(j *job, err error) cube.BuildFailure {
	for _, cause := range []error{errSuperseded, errDeleted, errStopping} {
		if errors.Is(context.Cause(j.ctx), cause) {
			return cube.BuildFailure{Message: cause.Error()}
		}
	}
	if s.ctx.Err() != nil {
		return cube.BuildFailure{Message: errStopping.Error()}
	}
	return failureOf(err)
}

// dropOld frees what old builds of a template hold.
func (s *Service) dropOld(id cube.TemplateID) {
	write, cancel := bounded(s.ctx)
	defer cancel()
	freed, err := s.store.DropBuilds(write, id, keepBuilds)
	if err != nil {
		s.log.Warn("old builds of a template keep their files", "template", id, "error", err)
	}
	s.release(freed...)
}

package build

import (
	"context"
	"fmt"
	"time"

	"cube"
)

const (
	// tidyEvery is how often what was counted is written, and what nobody names is
	// looked for; filesEvery the same for uploads and layers.
	tidyEvery  = 2 * time.Second
	filesEvery = time.Hour
	// keepLayers and layerAge bound the layers that are kept for other builds.
	keepLayers = 1000
	layerAge   = 30 * 24 * time.Hour
	// waitAge is how long a build may wait to be started.
	waitAge = 48 * time.Hour
)

// unnamed is a snapshot that no row named when it was looked at last.
type unnamed struct {
	since  time.Time
	before uint64 // builds with this number or a lower one may know it still
}

// Begin ends the builds of the last run, which nobody does any more, and begins to
// take new ones.
func (s *Service) Begin(ctx context.Context, builder Builder, sandboxes Sandboxes, engine Discarder) error {
	list, err := s.store.UnfinishedBuilds(ctx)
	if err != nil {
		return err
	}
	for _, b := range list {
		if b.Status != cube.BuildBuilding {
			continue
		}
		if err := s.fail(ctx, b, cube.BuildFailure{Message: errStopping.Error()}); err != nil {
			return fmt.Errorf("ending build %s: %w", b.ID, err)
		}
		s.log.Warn("a template's build ended with the last server", "template", b.Template, "build", b.ID)
	}
	s.builder, s.sandboxes, s.engine = builder, sandboxes, engine
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	s.wg.Go(s.tidy)
	return nil
}

// Close ends all builds, which say so, and waits for that.
func (s *Service) Close() {
	s.mu.Lock()
	s.open = false
	for _, j := range s.jobs() {
		s.end(j, errStopping)
	}
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	s.writeSpawns()
}

// tidy keeps house until the end.
func (s *Service) tidy() {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	var files time.Time
	for {
		if time.Since(files) > filesEvery {
			files = time.Now()
			s.uploads.removeOld()
			s.dropLayers()
		}
		s.writeSpawns()
		s.discardUnnamed()
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Service) writeSpawns() {
	s.mu.Lock()
	spawns := s.spawns
	s.spawns = map[cube.TemplateID]cube.Spawn{}
	s.mu.Unlock()
	if len(spawns) == 0 {
		return
	}
	write, cancel := bounded(s.ctx)
	defer cancel()
	if err := s.store.AddSpawns(write, spawns); err != nil {
		s.log.Warn("sandboxes of templates were not counted", "error", err)
	}
}

// dropLayers forgets layers that nobody has used for long, and builds that nobody
// has started.
func (s *Service) dropLayers() {
	write, cancel := bounded(s.ctx)
	defer cancel()
	dropped, err := s.store.DropLayers(write, rowTime().Add(-layerAge), keepLayers)
	if err != nil {
		s.log.Warn("old layers are kept", "error", err)
	}
	s.release(dropped...)
	list, err := s.store.UnfinishedBuilds(write)
	if err != nil {
		s.log.Warn("old builds wait on", "error", err)
	}
	for _, b := range list {
		if b.Status == cube.BuildWaiting && time.Since(b.CreatedAt) > waitAge {
			_ = s.fail(write, b, cube.BuildFailure{Message: "Nobody started the build"}) // the next round tries again
		}
	}
}

// release notes snapshots that a row named until now.
func (s *Service) release(ids ...cube.SnapshotID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if id != "" && id != cube.BaseSnapshot {
			s.garbage[id] = unnamed{time.Now(), s.count}
		}
	}
}

// discardUnnamed discards snapshots that no row names, and that neither a build
// nor a start that was on its way can need. Those that are left when the server
// stops are swept by the next.
func (s *Service) discardUnnamed() {
	ids := s.discardable()
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	named, err := s.store.TemplateSnapshots(ctx)
	if err != nil {
		s.log.Warn("snapshots that no template has are kept for now", "error", err)
		return
	}
	for _, id := range ids {
		if !named[id] {
			if err := s.engine.Discard(ctx, id); err != nil {
				s.log.Warn("a snapshot that no template has is kept for now", "snapshot", id, "error", err)
				continue
			}
		}
		s.mu.Lock()
		delete(s.garbage, id)
		s.mu.Unlock()
	}
}

func (s *Service) discardable() []cube.SnapshotID {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := s.count + 1
	for _, j := range s.jobs() {
		oldest = min(oldest, j.number)
	}
	var ids []cube.SnapshotID
	for id, u := range s.garbage {
		if time.Since(u.since) >= s.cfg.Grace && u.before < oldest {
			ids = append(ids, id)
		}
	}
	return ids
}

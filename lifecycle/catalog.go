package lifecycle

import (
	"context"

	"cube"
)

// Catalog is the templates that users own, which package build makes.
type Catalog interface {
	// Find returns what a name of a template that the caller may use stands for: its
	// id, an alias, either with a tag, an alias with its owner's name. Its Snapshot
	// stays for as long as the start takes that follows. Kinds: NotFound, Forbidden
	// (not for this credential), Conflict (it is not built yet).
	Find(ctx context.Context, name string) (cube.Template, error)
	// Spawned notes that a sandbox was made of a template. It must not wait.
	Spawned(id cube.TemplateID)
	// Snapshots returns those that templates and builds need.
	Snapshots(ctx context.Context) (map[cube.SnapshotID]bool, error)
}

// userTemplate finds a template that a user owns; false if there is none.
func (s *Sandboxes) userTemplate(ctx context.Context, name string) (cube.Template, bool, error) {
	if s.catalog == nil {
		return cube.Template{}, false, nil
	}
	t, err := s.catalog.Find(ctx, name)
	if err != nil && cube.KindOf(err) == cube.NotFound {
		return t, false, nil
	}
	if err != nil && ctx.Err() != nil {
		err = explain(ctx, s.ctx, err)
	}
	return t, err == nil, err
}

// ofTemplate is the origin of a sandbox of a template.
func ofTemplate(t cube.Template) origin {
	from := origin{
		snapshot: t.Snapshot, hostKey: t.HostKey, template: t.ID, resources: t.Resources, pooled: true,
		envVars: t.Defaults.EnvVars, user: t.Defaults.User, workdir: t.Defaults.Workdir,
	}
	if len(t.Aliases) > 0 {
		from.alias = t.Aliases[0]
	}
	return from
}

// Uses tells whether sandboxes of a template run, and whether some are paused.
func (s *Sandboxes) Uses(id cube.TemplateID) (running, paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.live {
		if l.template != id {
			continue
		}
		if l.counted {
			running = true
		} else {
			paused = true
		}
	}
	return running, paused
}

// Forget removes what waits for users of a template, which has become another or
// is gone.
func (s *Sandboxes) Forget(id cube.TemplateID) {
	s.pool.empty(func(k spareKind) bool { return k.template == id })
}

package build

import (
	"context"
	"encoding/json"
	"slices"

	"cube"
)

// Template returns a template of the caller's own. Kinds: NotFound, Forbidden.
func (s *Service) Template(ctx context.Context, name string) (cube.UserTemplate, error) {
	t, _, _, err := s.owned(ctx, name)
	return t, err
}

// Builds returns a page of a template's builds, newest first.
func (s *Service) Builds(ctx context.Context, id cube.TemplateID, after *cube.TemplateCursor, limit int) ([]cube.Build, error) {
	return s.store.ListBuilds(ctx, id, after, limit)
}

// List returns a page of the caller's templates, newest first.
func (s *Service) List(ctx context.Context, after *cube.TemplateCursor, limit int) ([]cube.UserTemplate, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	q := cube.TemplateQuery{After: after, Limit: limit}
	switch {
	case c.all:
	case s.cfg.Tenancy == cube.TenancySubject:
		q.Owner.Subject = c.tenant
	default:
		q.Owner.Team = c.tenant
	}
	list, err := s.store.ListTemplates(ctx, q)
	return slices.DeleteFunc(list, func(t cube.UserTemplate) bool { return !c.mayUse(namesOf(t)...) }), err
}

// Alias tells which template a name stands for, with a tag only if there is a
// build of it. Kinds: NotFound, Forbidden (it is another's, and public).
func (s *Service) Alias(ctx context.Context, name string) (cube.UserTemplate, error) {
	t, _, r, err := s.owned(ctx, name)
	if err == nil && r.tag != "" {
		if _, err := s.ready(ctx, t, r); err != nil {
			return t, cube.Errorf(cube.NotFound, "tag '%s' does not exist for template '%s'", r.tag, r.alias)
		}
	}
	return t, err
}

// SetPublic changes who may start sandboxes from a template. nil changes nothing.
func (s *Service) SetPublic(ctx context.Context, name string, public *bool) (cube.UserTemplate, error) {
	t, _, _, err := s.owned(ctx, name)
	if err != nil || public == nil {
		return t, err
	}
	write, cancel := bounded(ctx)
	defer cancel()
	if err := s.store.SetTemplatePublic(write, t.ID, *public, rowTime()); err != nil {
		return t, err
	}
	t.Public = *public
	s.observe(ctx, EventChanged, t, "", 0)
	return t, nil
}

// Delete deletes a template with its builds. Kinds: NotFound, Forbidden, Invalid
// (sandboxes of it run or are paused).
func (s *Service) Delete(ctx context.Context, name string) error {
	t, _, _, err := s.owned(ctx, name)
	if err != nil {
		return err
	}
	running, paused := s.sandboxes.Uses(t.ID)
	switch {
	case running:
		return cube.Errorf(cube.Invalid, "cannot delete template '%s' because there are running sandboxes using it", t.ID)
	case paused:
		return cube.Errorf(cube.Invalid, "cannot delete template '%s' because there are paused sandboxes using it", t.ID)
	}
	write, cancel := bounded(ctx)
	defer cancel()
	freed, err := s.store.DeleteTemplate(write, t.ID)
	if err != nil {
		if cube.KindOf(err) == cube.NotFound {
			return errNotFound(name)
		}
		return err
	}
	s.mu.Lock()
	for _, j := range s.jobs() {
		if j.template.ID == t.ID {
			s.end(j, errDeleted)
		}
	}
	s.mu.Unlock()
	s.sandboxes.Forget(t.ID)
	s.release(freed...)
	s.observe(ctx, EventDeleted, t, "", 0)
	return nil
}

// Tag has tags stand for the build that a name means. Kinds: NotFound, Forbidden,
// Invalid.
func (s *Service) Tag(ctx context.Context, target string, names []string) (cube.BuildID, []string, error) {
	if len(names) == 0 {
		return "", nil, cube.Errorf(cube.Invalid, "At least one tag is required")
	}
	tags, err := parseTags(names)
	if err != nil {
		return "", nil, err
	}
	t, _, r, err := s.owned(ctx, target)
	if err != nil {
		return "", nil, err
	}
	b, err := s.ready(ctx, t, r)
	if err != nil {
		if k := cube.KindOf(err); k == cube.NotFound || k == cube.Conflict {
			err = cube.Errorf(cube.NotFound, "Template '%.64s' with tag '%s' not found", target, r.tag)
		}
		return "", nil, err
	}
	write, cancel := bounded(ctx)
	defer cancel()
	if err := s.store.TagBuild(write, t.ID, b.ID, tags, rowTime()); err != nil {
		return "", nil, err
	}
	s.sandboxes.Forget(t.ID)
	s.dropOld(t.ID)
	s.observe(ctx, EventChanged, t, b.ID, 0)
	return b.ID, tags, nil
}

// Untag removes tags of a template. Kinds: NotFound, Forbidden, Invalid.
func (s *Service) Untag(ctx context.Context, name string, names []string) error {
	tags, err := parseTags(names)
	switch {
	case err != nil:
		return err
	case len(tags) == 0:
		return cube.Errorf(cube.Invalid, "At least one tag is required")
	case slices.Contains(tags, cube.DefaultTag):
		return cube.Errorf(cube.Invalid, "Cannot delete the '%s' tag", cube.DefaultTag)
	}
	t, _, r, err := s.owned(ctx, name)
	if err != nil {
		return err
	}
	if r.tag != "" {
		return cube.Errorf(cube.Invalid, "Template name should not contain a tag, use the 'tags' field instead")
	}
	write, cancel := bounded(ctx)
	defer cancel()
	if err := s.store.Untag(write, t.ID, tags); err != nil {
		return err
	}
	s.dropOld(t.ID)
	s.observe(ctx, EventChanged, t, "", 0)
	return nil
}

// Tags returns those of a template of the caller's own, the newest first.
func (s *Service) Tags(ctx context.Context, name string) ([]cube.Tag, error) {
	t, _, _, err := s.owned(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.store.Tags(ctx, t.ID)
}

// Progress is how far a build is.
type Progress struct {
	cube.Build
	Percent int // 100 when it has ended
}

// Build returns a build of a template of the caller's own. Kinds: NotFound,
// Forbidden.
func (s *Service) Build(ctx context.Context, template string, id cube.BuildID) (Progress, error) {
	t, _, _, err := s.owned(ctx, template)
	if err != nil {
		return Progress{}, err
	}
	j := s.job(id) // before the row, which is written before it goes
	b, err := s.store.Build(ctx, id)
	if err != nil || b.Template != t.ID {
		return Progress{}, errNoBuild(id, err)
	}
	p := Progress{Build: b, Percent: 100}
	switch {
	case b.Status == cube.BuildWaiting:
		p.Percent = 0
	case b.Status == cube.BuildBuilding && j != nil:
		p.Percent = int(j.percent.Load())
	}
	return p, nil
}

// Log returns lines of a build that Build has returned, which may be read before
// its log.
func (s *Service) Log(ctx context.Context, id cube.BuildID, q cube.BuildLogQuery) ([]cube.LogEntry, error) {
	if j := s.job(id); j != nil {
		j.log.flush()
	}
	return s.store.BuildLog(ctx, id, q)
}

// Last returns what the newest build of a template of the caller's own was asked
// to be made of; false if nobody has said yet.
func (s *Service) Last(ctx context.Context, name string) (cube.UserTemplate, Spec, bool, error) {
	t, _, _, err := s.owned(ctx, name)
	if err != nil || t.Latest.Spec == "" {
		return t, Spec{}, false, err
	}
	var spec Spec
	return t, spec, true, json.Unmarshal([]byte(t.Latest.Spec), &spec)
}

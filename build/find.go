package build

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"cube"
)

// caller is who asks, and what they may see.
type caller struct {
	cube.Identity
	owner  cube.Owner // of what they create
	tenant string     // whose templates are theirs; "" without tenancy
	all    bool       // everybody's are
}

// caller reads who asks out of ctx. Under tenancy a caller without a tenant is
// refused, so that a way to here that forgot to ask who it is opens nothing.
func (s *Service) caller(ctx context.Context) (caller, error) {
	id := cube.IdentityFrom(ctx)
	c := caller{Identity: id, owner: id.Owner(), tenant: s.cfg.Tenancy.Tenant(id.Owner())}
	switch {
	case s.cfg.Tenancy == cube.TenancyOff:
		c.all, c.tenant = true, ""
	case id.Operator():
		c.all = true
	case c.tenant == "":
		return c, cube.Errorf(cube.Forbidden, "This server keeps what belongs to each %s apart, and it was not told yours: ask its operator", s.cfg.Tenancy)
	}
	return c, nil
}

// mine tells whether a template belongs to the caller.
func (s *Service) mine(c caller, t cube.UserTemplate) bool {
	return c.all || s.cfg.Tenancy.Tenant(t.Owner) == c.tenant
}

// namesOf are all that a template is called.
func namesOf(t cube.UserTemplate) []string {
	names := append([]string{string(t.ID)}, t.Aliases...)
	return append(names, t.Names()...)
}

// mayUse tells whether the caller's credential is for a template of these names.
func (c caller) mayUse(names ...string) bool {
	return c.Templates == nil || slices.ContainsFunc(names, func(n string) bool { return n != "" && slices.Contains(c.Templates, n) })
}

func errNotFound(name string) error {
	return cube.Errorf(cube.NotFound, "Template '%.64s' not found or you don't have access to it", name)
}

func errNoCredential(name string) error {
	return cube.Errorf(cube.Forbidden, "This credential may not use the template '%.64s'", name)
}

// resolve finds a template by its id or an alias: the caller's own, and what is
// public. Kinds: NotFound, Forbidden (the credential is not for it).
func (s *Service) resolve(ctx context.Context, c caller, r reference) (cube.UserTemplate, error) {
	none := cube.UserTemplate{}
	t, err := s.lookUp(ctx, c, r)
	switch {
	case err != nil && cube.KindOf(err) == cube.NotFound:
		return none, errNotFound(r.alias)
	case err != nil:
		return none, err
	case !s.mine(c, t) && !t.Public:
		return none, errNotFound(r.alias)
	case !c.mayUse(namesOf(t)...):
		return none, errNoCredential(r.alias)
	}
	return t, nil
}

func (s *Service) lookUp(ctx context.Context, c caller, r reference) (cube.UserTemplate, error) {
	if r.namespace != "" && !s.isOwnSpace(c, r.namespace) {
		return s.store.TemplateByAlias(ctx, r.namespace, r.alias)
	}
	t, err := s.store.TemplateByAlias(ctx, c.tenant, r.alias)
	if r.namespace != "" || err == nil || cube.KindOf(err) != cube.NotFound {
		return t, err
	}
	return s.store.UserTemplate(ctx, cube.TemplateID(r.alias))
}

// DefaultSpace is the namespace of those of whom nobody said a team.
const DefaultSpace = "default"

// isOwnSpace tells whether a namespace is the caller's.
func (s *Service) isOwnSpace(c caller, namespace string) bool {
	own := c.tenant
	if own == "" {
		own = c.Team
	}
	if own == "" {
		own = DefaultSpace
	}
	return strings.EqualFold(namespace, own)
}

// owned finds a template of the caller's own. One that is not theirs and public is
// Forbidden: that it exists is no secret.
func (s *Service) owned(ctx context.Context, name string) (cube.UserTemplate, caller, reference, error) {
	none := cube.UserTemplate{}
	c, err := s.caller(ctx)
	if err != nil {
		return none, c, reference{}, err
	}
	r, err := parseReference(name)
	if err != nil {
		return none, c, r, err
	}
	t, err := s.resolve(ctx, c, r)
	if err != nil {
		return none, c, r, err
	}
	if !s.mine(c, t) {
		return none, c, r, cube.Errorf(cube.Forbidden, "You don't have access to this sandbox template (%.64s)", name)
	}
	return t, c, r, nil
}

// ready finds the build of a template that a reference means.
func (s *Service) ready(ctx context.Context, t cube.UserTemplate, r reference) (cube.Build, error) {
	missing := cube.Errorf(cube.NotFound, "tag '%s' does not exist for template '%s'", r.tag, r.alias)
	if cube.IsBuildID(r.tag) {
		b, err := s.store.Build(ctx, cube.BuildID(r.tag))
		if err == nil && (b.Template != t.ID || b.Status != cube.BuildReady || b.Snapshot == "") {
			err = missing
		}
		return b, err
	}
	tag := r.tag
	if tag == "" {
		tag = cube.DefaultTag
	}
	b, err := s.store.BuildByTag(ctx, t.ID, tag)
	switch {
	case err == nil || cube.KindOf(err) != cube.NotFound:
		return b, err
	case r.tag != "" && r.tag != cube.DefaultTag:
		return b, missing
	case s.ownTemplate(r.alias) != nil:
		return b, missing
	case t.Latest.Status == cube.BuildError:
		return b, cube.Errorf(cube.Conflict, "Template '%s' has no build that succeeded: its last one failed", r.alias)
	case t.Latest.Status == cube.BuildReady:
		return b, cube.Errorf(cube.NotFound, "Template '%s' has no tag 'default': name one of its tags, as in %s:v1", r.alias, r.alias)
	}
	return b, cube.Errorf(cube.Conflict, "Template '%s' is not built yet: try again when its build is ready", r.alias)
}

// ownTemplate finds a template of the server's, nil if there is none.
func (s *Service) ownTemplate(name string) *cube.Template {
	for i, t := range s.cfg.Own {
		if name == string(t.ID) || slices.Contains(t.Aliases, name) {
			return &s.cfg.Own[i]
		}
	}
	return nil
}

// Find implements lifecycle's Catalog.
func (s *Service) Find(ctx context.Context, name string) (cube.Template, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return cube.Template{}, err
	}
	r, err := parseReference(name)
	if err != nil {
		return cube.Template{}, errNotFound(name)
	}
	t, err := s.resolve(ctx, c, r)
	if err != nil {
		return cube.Template{}, err
	}
	b, err := s.ready(ctx, t, r)
	if err != nil {
		return cube.Template{}, err
	}
	found := cube.Template{ID: t.ID, Aliases: t.Aliases, Snapshot: b.Snapshot, Resources: b.Resources, Defaults: b.Defaults}
	if b.Memory {
		found.HostKey = b.HostKey
	}
	return found, nil
}

// baseOf finds what a build from a template begins with.
func (s *Service) baseOf(ctx context.Context, c caller, name string) (Base, error) {
	r, err := parseReference(name)
	if err != nil {
		return Base{}, err
	}
	var found Base
	t, err := s.resolve(ctx, c, r)
	if err == nil {
		var b cube.Build
		if b, err = s.ready(ctx, t, r); err == nil {
			return found, json.Unmarshal([]byte(b.Base), &found)
		}
	}
	if own := s.ownTemplate(r.alias); own != nil && cube.KindOf(err) == cube.NotFound {
		if !c.mayUse(append([]string{string(own.ID)}, own.Aliases...)...) {
			return found, errNoCredential(name)
		}
		return Base{Snapshot: own.Snapshot, Defaults: own.Defaults}, nil
	}
	return found, err
}

// Snapshots implements lifecycle's Catalog.
func (s *Service) Snapshots(ctx context.Context) (map[cube.SnapshotID]bool, error) {
	return s.store.TemplateSnapshots(ctx)
}

// Recent returns the templates of which sandboxes were made since a time, at most so
// many, the latest first.
func (s *Service) Recent(ctx context.Context, since time.Time, most int) ([]cube.TemplateID, error) {
	list, err := s.store.ListTemplates(ctx, cube.TemplateQuery{})
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(t cube.UserTemplate) bool { return t.LastSpawnedAt.Before(since) })
	slices.SortStableFunc(list, func(a, b cube.UserTemplate) int { return b.LastSpawnedAt.Compare(a.LastSpawnedAt) })
	var ids []cube.TemplateID
	for _, t := range list[:min(most, len(list))] {
		ids = append(ids, t.ID)
	}
	return ids, nil
}

// Spawned implements lifecycle's Catalog.
func (s *Service) Spawned(id cube.TemplateID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	spawn := s.spawns[id]
	s.spawns[id] = cube.Spawn{Count: spawn.Count + 1, Last: rowTime()}
}

package lifecycle

import (
	"context"
	"maps"
	"slices"
	"strings"

	"cube"
)

// origin is what a sandbox starts from, and what it has from there.
type origin struct {
	snapshot  cube.SnapshotID
	hostKey   string // of the agent in its memory, "" without memory
	template  cube.TemplateID
	alias     string
	resources cube.Resources
	envVars   map[string]string
	user      string // who its processes are, and where, unless they say; "" for the agent's own
	workdir   string
	// template's own: sandboxes of it may be waiting in the pool.
	pooled bool
}

// with adds to the origin's environment.
func (o origin) with(envVars map[string]string) map[string]string {
	if len(o.envVars) == 0 {
		return envVars
	}
	all := maps.Clone(o.envVars)
	maps.Copy(all, envVars)
	return all
}

// originOf finds a template, or a snapshot of the caller's, by what a user calls
// it. Kinds: NotFound, Forbidden.
func (s *Sandboxes) originOf(ctx context.Context, name string) (origin, error) {
	if template, is, err := s.userTemplate(ctx, name); is || err != nil {
		return ofTemplate(template), err
	}
	if template, ok := s.template(name); ok {
		return ofTemplate(template), mayUse(ctx, name, namesOf(template))
	}
	snapshot, err := s.findSnapshot(ctx, name)
	if err != nil {
		if cube.KindOf(err) == cube.NotFound {
			err = errNoTemplate(name)
		}
		return origin{}, err
	}
	from := origin{
		snapshot: snapshot.ID, hostKey: keyOfMemory(snapshot.Memory, snapshot.HostKey),
		template: cube.TemplateID(snapshot.ID), alias: snapshot.Name,
		resources: snapshot.Resources, envVars: snapshot.EnvVars, user: snapshot.User, workdir: snapshot.Workdir,
	}
	return from, mayUse(ctx, name, []string{string(snapshot.ID), snapshot.Name, string(snapshot.Template), snapshot.Alias})
}

// template finds a template by what a user calls it.
func (s *Sandboxes) template(name string) (cube.Template, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.templates[strings.TrimSuffix(name, ":"+cube.DefaultTag)]
	return t, ok
}

// Template returns the server's own template that a name stands for, if the caller may use
// it. Kind: NotFound, Forbidden.
func (s *Sandboxes) Template(ctx context.Context, name string) (cube.Template, error) {
	t, known := s.template(name)
	if !known {
		return t, errNoTemplate(name)
	}
	return t, mayUse(ctx, name, namesOf(t))
}

// Templates returns the server's own that the caller may use, by their ids.
func (s *Sandboxes) Templates(ctx context.Context) []cube.Template {
	s.mu.Lock()
	byID := map[cube.TemplateID]cube.Template{}
	for _, t := range s.templates {
		if mayUse(ctx, string(t.ID), namesOf(t)) == nil {
			byID[t.ID] = t
		}
	}
	s.mu.Unlock()
	var list []cube.Template
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		list = append(list, byID[id])
	}
	return list
}

// namesOf are all names of a template.
func namesOf(t cube.Template) []string { return append([]string{string(t.ID)}, t.Aliases...) }

func errNoTemplate(name string) error {
	return cube.Errorf(cube.NotFound, "Template %.64q not found: write the id or alias of a template that this server has, or the id or name of a snapshot of yours", name)
}

// SetTemplate adds a template, or replaces the one with its id: what waits for
// the old one's users goes.
func (s *Sandboxes) SetTemplate(t cube.Template) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.templates, func(_ string, old cube.Template) bool { return old.ID == t.ID })
	for _, name := range namesOf(t) {
		s.templates[name] = t
	}
	s.pool.empty(func(k spareKind) bool { return k.template == t.ID })
}

// mayUse refuses a template that the caller's credential is not for. names are
// all that it is called.
func mayUse(ctx context.Context, name string, names []string) error {
	allowed := cube.IdentityFrom(ctx).Templates
	if allowed == nil || slices.ContainsFunc(names, func(n string) bool { return n != "" && slices.Contains(allowed, n) }) {
		return nil
	}
	return cube.Errorf(cube.Forbidden, "This credential may not use the template %.64q", name)
}

package build

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"cube"
)

// Request is a build that somebody will ask for.
type Request struct {
	// Name is of a template that is there, or of a new one; "" for a new one without.
	// A tag behind it is one of Tags.
	Name string
	Tags []string // none means cube.DefaultTag
	// CPUs and MemoryMB of the sandboxes; nil for the server's own.
	CPUs, MemoryMB *int
	DiskMB         int // that they may write; 0 for the server's own
	// Spec is what it shall be made of, if that is known: see StartKept.
	Spec *Spec
}

// maxOfAccount is how many builds of one account may wait or run at once. E2B has
// 20 too.
const maxOfAccount = 20

const superseded = "The build was canceled because it was superseded by a newer one."

// Request adds a build, waiting to be started, and its template where that is new.
// Builds of the same template and one of the same tags that wait to be started as
// well have failed then. Kinds: Invalid, Forbidden (the credential is not for the
// name), Conflict (the name is somebody else's here), Exhausted (too many templates).
func (s *Service) Request(ctx context.Context, req Request) (cube.UserTemplate, cube.Build, error) {
	none := func(err error) (cube.UserTemplate, cube.Build, error) { return cube.UserTemplate{}, cube.Build{}, err }
	c, err := s.caller(ctx)
	if err != nil {
		return none(err)
	}
	resources, err := s.resources(c, req)
	if err != nil {
		return none(err)
	}
	var r reference
	if req.Name != "" {
		if r, err = parseReference(req.Name); err != nil {
			return none(cube.Errorf(cube.Invalid, "Invalid name: %s", err.Error()))
		}
		if r.namespace != "" && !s.isOwnSpace(c, r.namespace) {
			return none(cube.Errorf(cube.Invalid, "namespace '%s' must match your team '%s'", r.namespace, cmp.Or(c.tenant, c.Team, DefaultSpace)))
		}
		if r.tag != "" {
			req.Tags = append([]string{r.tag}, req.Tags...)
		}
	}
	tags, err := parseTags(req.Tags)
	if err != nil {
		return none(err)
	}
	if len(tags) == 0 {
		tags = []string{cube.DefaultTag}
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	t, isNew, err := s.templateFor(ctx, c, r)
	if err != nil {
		return none(err)
	}
	b := cube.Build{
		ID: cube.NewBuildID(), Template: t.ID, Tags: tags, Status: cube.BuildWaiting, Resources: resources,
		CreatedAt: rowTime(), UpdatedAt: rowTime(),
	}
	if req.Spec != nil {
		if b.Spec, err = specText(*req.Spec); err != nil {
			return none(err)
		}
	}
	t.UpdatedAt, t.Latest = b.CreatedAt, b
	t.BuildCount++
	write, cancel := bounded(ctx)
	defer cancel()
	if !isNew {
		if err := s.supersede(write, b); err != nil {
			return none(err)
		}
	}
	if err := s.store.CreateBuild(write, t, b); err != nil {
		return none(err)
	}
	s.observe(ctx, EventRequested, t, b.ID, 0)
	return t, b, nil
}

// templateFor returns the caller's template of a name, or a new one. s.naming is
// held.
func (s *Service) templateFor(ctx context.Context, c caller, r reference) (t cube.UserTemplate, isNew bool, err error) {
	if r.alias != "" {
		t, err = s.lookUp(ctx, c, r)
		switch {
		case err == nil && s.mine(c, t):
			if !c.mayUse(namesOf(t)...) {
				return t, false, errNoCredential(r.alias)
			}
			return t, false, nil
		case err != nil && cube.KindOf(err) != cube.NotFound:
			return t, false, err
		}
		if !c.mayUse(r.alias, c.tenant+"/"+r.alias) {
			return t, false, errNoCredential(r.alias)
		}
	} else if c.Templates != nil {
		return t, false, cube.Errorf(cube.Forbidden, "This credential may use certain templates alone: give the template one of their names")
	}
	if s.cfg.MaxTemplates > 0 {
		n, err := s.store.CountTemplates(ctx, c.Account())
		if err != nil {
			return t, false, err
		}
		if n >= s.cfg.MaxTemplates {
			return t, false, cube.Errorf(cube.Exhausted, "You have %d templates of the %d that you may have: delete one that you do not need", n, s.cfg.MaxTemplates)
		}
	}
	t = cube.UserTemplate{ID: cube.NewTemplateID(), Owner: c.owner, Account: c.Account(), Namespace: c.tenant, CreatedAt: rowTime()}
	if r.alias != "" {
		t.Aliases = []string{r.alias}
	}
	return t, true, nil
}

// resources checks what a template asks for, in E2B's sentences.
func (s *Service) resources(c caller, req Request) (cube.Resources, error) {
	r := s.cfg.Resources
	invalid := func(format string, args ...any) (cube.Resources, error) {
		return r, cube.Errorf(cube.Invalid, format, args...)
	}
	if req.CPUs != nil {
		r.CPUs = *req.CPUs
		most := s.cfg.MaxCPUs
		if c.Limits.CPUs > 0 {
			most = min(most, c.Limits.CPUs)
		}
		switch {
		case r.CPUs < 1:
			return invalid("validation error: cpuCount must be at least 1")
		case r.CPUs > e2bMaxCPUs:
			return invalid("CPU count must be at most %d", e2bMaxCPUs)
		case r.CPUs != 1 && r.CPUs%2 != 0:
			return invalid("CPU count must be 1 or an even number")
		case r.CPUs > most:
			return invalid("CPU count can't be higher than %d: this machine, or your account, has no more", most)
		}
	}
	if req.MemoryMB != nil {
		r.MemoryMB = *req.MemoryMB
		most := s.cfg.MaxMemoryMB
		if c.Limits.MemoryMB > 0 && (most == 0 || c.Limits.MemoryMB < most) {
			most = c.Limits.MemoryMB
		}
		switch {
		case r.MemoryMB < 128:
			return invalid("validation error: memoryMB must be at least 128")
		case r.MemoryMB%2 != 0:
			return invalid("Memory must be divisible by 2")
		case most > 0 && r.MemoryMB > most:
			return invalid("Memory can't be higher than %d MiB: this machine, or your account, has no more", most)
		}
	}
	if req.DiskMB != 0 {
		const most = 1 << 20
		if r.DiskMB = req.DiskMB; r.DiskMB < 1 || r.DiskMB > most {
			return invalid("validation error: the writable layer must have 1 to %d MiB", most)
		}
	}
	return r, nil
}

// supersede ends the builds of the same template that wait for their start, and
// those that are at work, if they would get one of the same tags.
func (s *Service) supersede(ctx context.Context, newer cube.Build) error {
	list, err := s.store.UnfinishedBuilds(ctx)
	if err != nil {
		return err
	}
	for _, b := range list {
		if b.Template != newer.Template || b.ID == newer.ID || b.CreatedAt.After(newer.CreatedAt) ||
			b.Status != cube.BuildWaiting || !slices.ContainsFunc(b.Tags, func(tag string) bool { return slices.Contains(newer.Tags, tag) }) {
			continue
		}
		if err := s.fail(ctx, b, cube.BuildFailure{Message: superseded}); err != nil && cube.KindOf(err) != cube.Conflict {
			return err
		}
	}
	return nil
}

// fail ends a build that is not at work.
func (s *Service) fail(ctx context.Context, b cube.Build, why cube.BuildFailure) error {
	from := b.Status
	b.Status, b.Failure, b.UpdatedAt, b.FinishedAt = cube.BuildError, why, rowTime(), rowTime()
	return s.store.UpdateBuild(ctx, from, b)
}

// Quantity reads a size such as 512M or 2G as MiB; a bare number is in MiB.
func Quantity(text string) (int, error) {
	units := []struct {
		suffix string
		mib    int
	}{{"Gi", 1 << 10}, {"GiB", 1 << 10}, {"GB", 1 << 10}, {"G", 1 << 10}, {"Mi", 1}, {"MiB", 1}, {"MB", 1}, {"M", 1}, {"", 1}}
	for _, unit := range units {
		number, found := strings.CutSuffix(strings.TrimSpace(text), unit.suffix)
		if !found || number == "" || strings.Trim(number, "0123456789") != "" || len(number) > 8 {
			continue
		}
		n := 0
		for _, digit := range number {
			n = n*10 + int(digit-'0')
		}
		return n * unit.mib, nil
	}
	return 0, cube.Errorf(cube.Invalid, "validation error: %.32q is not a size: write it as 2G or 512M", text)
}

package build

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"cube"
)

// maxBuild bounds one build, its wait for a place not included.
const maxBuild = 4 * time.Hour

// job is a build that waits for its place, or runs.
type job struct {
	build    cube.Build
	template cube.UserTemplate
	spec     Spec
	number   uint64 // later ones have greater ones
	ctx      context.Context
	cancel   context.CancelCauseFunc
	log      *logbook
	percent  atomic.Int32
	ended    chan struct{} // closed when its row says what came of it
}

// Why a build is ended from outside: the cause of its context's end.
var (
	errSuperseded = errors.New(superseded)
	errDeleted    = errors.New("the template was deleted while it was built")
	errStopping   = errors.New("the server stopped while the template was built, and its build did not go on: build it again")
)

// StartRequest is what a build shall be made of.
type StartRequest struct {
	Template string       // id or alias
	Build    cube.BuildID // one that waits
	Spec     Spec         // without Template, Scope, FromTemplate and Resources
	// FromTemplate is the name of a template to begin with, "" for Spec.From.
	FromTemplate string
}

const (
	maxStepsOfSpec = 1000
	maxSpec        = 1 << 20 // of what is kept, in bytes
)

// StartKept has a build begin that was asked for together with what it shall be
// made of. Kinds: those of Start.
func (s *Service) StartKept(ctx context.Context, template string, id cube.BuildID) error {
	b, err := s.Build(ctx, template, id)
	if err != nil {
		return err
	}
	if b.Spec == "" {
		return cube.Errorf(cube.Invalid, "This build was asked for without a Dockerfile: start it with POST /v2/templates/{templateID}/builds/{buildID}, which says what it shall be made of")
	}
	var spec Spec
	if err := json.Unmarshal([]byte(b.Spec), &spec); err != nil {
		return err
	}
	return s.Start(ctx, StartRequest{Template: template, Build: id, Spec: spec})
}

// Start has a build begin as soon as there is a place for it. An older one of the
// same template and one of the same tags ends. Kinds: NotFound, Forbidden, Invalid
// (it is not waiting, or what it shall be made of), Conflict (the template that it
// begins with has not been built), Exhausted (too many builds), Unavailable.
func (s *Service) Start(ctx context.Context, req StartRequest) error {
	t, c, _, err := s.owned(ctx, req.Template)
	if err != nil {
		return err
	}
	b, err := s.store.Build(ctx, req.Build)
	if err != nil || b.Template != t.ID {
		return errNoBuild(req.Build, err)
	}
	if b.Status != cube.BuildWaiting {
		return cube.Errorf(cube.Invalid, "build is not in waiting state")
	}
	spec := req.Spec
	spec.Template, spec.Scope, spec.Resources = t.ID, s.cfg.Tenancy.Tenant(t.Owner), b.Resources
	if err := s.checkSpec(ctx, c, &spec, req.FromTemplate); err != nil {
		return err
	}
	if b.Spec, err = specText(spec); err != nil {
		return err
	}
	return s.enqueue(ctx, t, b, spec)
}

func errNoBuild(id cube.BuildID, err error) error {
	if err != nil && cube.KindOf(err) != cube.NotFound {
		return err
	}
	return cube.Errorf(cube.NotFound, "Build '%.64s' not found", string(id))
}

// specText is a spec as it is kept: without its credentials, and without what it
// begins with, which is looked for again.
func specText(spec Spec) (string, error) {
	spec.Credentials, spec.FromTemplate = nil, nil
	text, err := json.Marshal(spec)
	if err == nil && len(text) > maxSpec {
		err = cube.Errorf(cube.TooLarge, "The build's steps take more than %d bytes: put files into a COPY", maxSpec)
	}
	return string(text), err
}

func (s *Service) checkSpec(ctx context.Context, c caller, spec *Spec, fromTemplate string) error {
	switch {
	case spec.From != "" && fromTemplate != "":
		return cube.Errorf(cube.Invalid, "fromImage and fromTemplate cannot both be given: a build begins with one of them")
	case spec.FromArchive != "" && (spec.From != "" || fromTemplate != ""):
		return cube.Errorf(cube.Invalid, "fromArchive stands in place of fromImage and fromTemplate: a build begins with one of them")
	case spec.FromArchive != "" && !uploadHash.MatchString(spec.FromArchive):
		return cube.Errorf(cube.Invalid, "validation error: fromArchive must be the hash of an upload, 64 hexadecimal digits")
	case len(spec.Steps) > maxStepsOfSpec:
		return cube.Errorf(cube.Invalid, "validation error: %d steps are too many: at most %d", len(spec.Steps), maxStepsOfSpec)
	}
	if spec.Credentials != nil {
		if err := spec.Credentials.Validate(); err != nil {
			return err
		}
	}
	if fromTemplate == "" {
		return nil
	}
	base, err := s.baseOf(ctx, c, fromTemplate)
	if err != nil {
		return err
	}
	spec.From, spec.FromTemplate = fromTemplate, &base
	return nil
}

// enqueue notes that a build is building, and puts it into the line.
func (s *Service) enqueue(ctx context.Context, t cube.UserTemplate, b cube.Build, spec Spec) error {
	j := &job{build: b, template: t, spec: spec, ended: make(chan struct{})}
	j.ctx, j.cancel = context.WithCancelCause(s.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return cube.Errorf(cube.Unavailable, "The server is stopping: try again in a moment")
	}
	for _, other := range s.jobs() {
		sameTag := slices.ContainsFunc(other.build.Tags, func(tag string) bool { return slices.Contains(b.Tags, tag) })
		if other.template.ID == t.ID && sameTag && !other.build.CreatedAt.After(b.CreatedAt) {
			s.end(other, errSuperseded)
		}
	}
	if n := s.countOf(t.Account); n >= maxOfAccount {
		return cube.Errorf(cube.Exhausted, "you have reached the maximum number of concurrent template builds (%d). Please wait for existing builds to complete.", maxOfAccount)
	}
	j.build.Status, j.build.UpdatedAt = cube.BuildBuilding, rowTime()
	write, cancel := bounded(ctx)
	defer cancel()
	if err := s.store.UpdateBuild(write, cube.BuildWaiting, j.build); err != nil {
		if cube.KindOf(err) == cube.Conflict {
			return cube.Errorf(cube.Invalid, "build is not in waiting state")
		}
		return err
	}
	j.log = newLogbook(s, b.ID)
	s.count++
	j.number = s.count
	s.waiting = append(s.waiting, j)
	s.dispatch()
	return nil
}

// jobs are all, those that wait included; s.mu is held.
func (s *Service) jobs() []*job {
	list := slices.Clone(s.waiting)
	for _, j := range s.running {
		list = append(list, j)
	}
	return list
}

// countOf is how many builds an account has, but for those that are ending; s.mu
// is held.
func (s *Service) countOf(account string) int {
	n := 0
	for _, j := range s.jobs() {
		if j.template.Account == account && j.ctx.Err() == nil {
			n++
		}
	}
	return n
}

// job returns the job of a build, nil if there is none.
func (s *Service) job(id cube.BuildID) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.waiting {
		if j.build.ID == id {
			return j
		}
	}
	return s.running[id]
}

// end ends a job. One that waits for its place needs none for that. s.mu is held.
func (s *Service) end(j *job, why error) {
	j.cancel(why)
	if i := slices.Index(s.waiting, j); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.wg.Go(func() {
			s.conclude(j, Result{}, why, 0)
			close(j.ended)
		})
	}
}

// dispatch gives places to those that are next; s.mu is held.
func (s *Service) dispatch() {
	for len(s.waiting) > 0 && len(s.running) < s.cfg.Slots {
		j := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.running[j.build.ID] = j
		s.wg.Go(func() { s.work(j) })
	}
}

// work runs a build, and says what came of it.
func (s *Service) work(j *job) {
	begun := time.Now()
	var result Result
	err := context.Cause(j.ctx)
	if err == nil {
		ctx, cancel := context.WithTimeout(j.ctx, maxBuild)
		result, err = s.builder.Run(ctx, string(j.build.ID), j.spec, j.note)
		cancel()
	}
	j.cancel(nil)
	s.conclude(j, result, err, time.Since(begun))
	close(j.ended)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, j.build.ID)
	s.dispatch()
}

// note takes a line of the build's log, and sees how far it is.
func (j *job) note(line cube.LogEntry) {
	percent := int32(5)
	switch n := stepNumber(line.Step); {
	case n > 0 && len(j.spec.Steps) > 0:
		percent = int32(20 + 65*(n-1)/len(j.spec.Steps))
	case line.Step == "finalize":
		percent = 85
	}
	if percent > j.percent.Load() {
		j.percent.Store(percent)
	}
	j.log.add(line)
}

func stepNumber(text string) int {
	n := 0
	for _, digit := range text {
		if digit < '0' || digit > '9' || n > maxStepsOfSpec {
			return 0
		}
		n = n*10 + int(digit-'0')
	}
	return n
}

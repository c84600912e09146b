package api

import (
	"net/http"

	"cube"
	"cube/api/gen"
	"cube/build"
	"cube/build/dockerfile"
)

// maxTemplateName is the longest name, its namespace and tag included.
const maxTemplateName = 128

// POST /v3/templates
func (a *api) createTemplateV3(w http.ResponseWriter, r *http.Request) error {
	var body gen.NewTemplateV3
	unknown, err := decodeBody(w, r, &body, []string{"name", "alias", "tags", "teamID", "cpuCount", "memoryMB", "minFreeDiskMb"}, false)
	if err != nil {
		return err
	}
	request := build.Request{CPUs: body.CpuCount, MemoryMB: body.MemoryMB}
	switch {
	case body.Name != nil:
		request.Name = *body.Name
	case body.Alias != nil:
		request.Name = *body.Alias
	}
	if request.Name == "" {
		return cube.Errorf(cube.Invalid, "Name is required")
	}
	if body.Tags != nil {
		request.Tags = *body.Tags
	}
	if body.MinFreeDiskMb != nil {
		request.DiskMB = *body.MinFreeDiskMb
	}
	t, b, err := a.request(r, request)
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	return writeJSON(w, http.StatusAccepted, gen.RequestedTemplate{
		TemplateID: string(t.ID), BuildID: string(b.ID), Public: t.Public, Names: t.Names(), Tags: b.Tags, Aliases: listOf(t.Aliases),
	})
}

func (a *api) request(r *http.Request, request build.Request) (cube.UserTemplate, cube.Build, error) {
	if len(request.Name) > maxTemplateName {
		return cube.UserTemplate{}, cube.Build{}, cube.Errorf(cube.Invalid, "validation error: the name is longer than %d characters", maxTemplateName)
	}
	return a.templates.Request(r.Context(), request)
}

// POST /v2/templates
func (a *api) createTemplateV2(w http.ResponseWriter, r *http.Request) error {
	var body gen.NewTemplateV2
	unknown, err := decodeBody(w, r, &body, []string{"alias", "teamID", "cpuCount", "memoryMB"}, false)
	if err != nil {
		return err
	}
	if body.Alias == nil || *body.Alias == "" {
		return cube.Errorf(cube.Invalid, "validation error: alias is missing: write the template's name")
	}
	t, b, err := a.request(r, build.Request{Name: *body.Alias, CPUs: body.CpuCount, MemoryMB: body.MemoryMB})
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	return writeJSON(w, http.StatusAccepted, templateJob(t, b, 0))
}

// newTemplateFields are the fields of the older forms.
var newTemplateFields = []string{
	"alias", "dockerfile", "teamID", "startCmd", "readyCmd", "cpuCount", "memoryMB", "templateID", "image", "instanceType", "cpu", "memory",
	"writableLayerSize", "exposedPorts", "probePort", "probePath", "env", "registryUsername", "registryPassword", "force",
}

// POST /templates
//
// Two protocols have this path: the body tells which.
func (a *api) createTemplate(w http.ResponseWriter, r *http.Request) error {
	var body gen.NewTemplate
	unknown, err := decodeBody(w, r, &body, newTemplateFields, false)
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	if text(body.Image) != "" {
		return a.buildImage(w, r, body, build.Spec{})
	}
	request := build.Request{Name: text(body.Alias), CPUs: body.CpuCount, MemoryMB: body.MemoryMB}
	return a.requestDockerfile(w, r, body, request)
}

// requestDockerfile answers to E2B's oldest form: the build is started by POST
// /templates/{templateID}/builds/{buildID}.
func (a *api) requestDockerfile(w http.ResponseWriter, r *http.Request, body gen.NewTemplate, request build.Request) error {
	if source := text(body.Dockerfile); source != "" {
		file, err := dockerfile.Parse(source, nil)
		if err != nil {
			return cube.Errorf(cube.Invalid, "The Dockerfile cannot be read: %v", err)
		}
		request.Spec = &build.Spec{From: file.From, StartCmd: file.Start, ReadyCmd: text(body.ReadyCmd)}
		for _, step := range file.Steps {
			request.Spec.Steps = append(request.Spec.Steps, step.Step)
		}
		if start := text(body.StartCmd); start != "" {
			request.Spec.StartCmd = start
		}
	}
	t, b, err := a.request(r, request)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, templateJob(t, b, 0))
}

// POST /templates/{templateID}
func (a *api) rebuildTemplate(w http.ResponseWriter, r *http.Request) error {
	var body gen.NewTemplate
	unknown, err := decodeBody(w, r, &body, newTemplateFields, true)
	if err != nil {
		return err
	}
	t, spec, known, err := a.templates.Last(r.Context(), r.PathValue("templateID"))
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	name := string(t.ID)
	if body.Dockerfile != nil {
		return a.requestDockerfile(w, r, body, build.Request{Name: name, CPUs: body.CpuCount, MemoryMB: body.MemoryMB})
	}
	if !known && text(body.Image) == "" {
		return cube.Errorf(cube.Invalid, "This template was never built: write the image that it shall be made of")
	}
	body.TemplateID = &name
	if body.Cpu == nil && body.CpuCount == nil {
		body.CpuCount = &t.Latest.Resources.CPUs
	}
	if body.Memory == nil && body.MemoryMB == nil {
		body.MemoryMB = &t.Latest.Resources.MemoryMB
	}
	return a.buildImage(w, r, body, spec)
}

// buildImage answers to CubeSandbox's form: the build begins at once. spec is what
// the body changes.
func (a *api) buildImage(w http.ResponseWriter, r *http.Request, body gen.NewTemplate, spec build.Spec) error {
	request := build.Request{Name: text(body.TemplateID), CPUs: body.CpuCount, MemoryMB: body.MemoryMB}
	if request.Name == "" {
		request.Name = text(body.Alias)
	}
	if body.Cpu != nil {
		request.CPUs = body.Cpu
	}
	if body.Memory != nil {
		request.MemoryMB = body.Memory
	}
	if size := text(body.WritableLayerSize); size != "" {
		var err error
		if request.DiskMB, err = build.Quantity(size); err != nil {
			return err
		}
	}
	fromTemplate, err := imageSpec(body, &spec)
	if err != nil {
		return err
	}
	t, b, err := a.request(r, request)
	if err != nil {
		return err
	}
	if err := a.templates.Start(r.Context(), build.StartRequest{Template: string(t.ID), Build: b.ID, Spec: spec, FromTemplate: fromTemplate}); err != nil {
		return err
	}
	b.Status = cube.BuildBuilding
	return writeJSON(w, http.StatusAccepted, templateJob(t, b, 0))
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// templateJob is the answer of both older forms.
func templateJob(t cube.UserTemplate, b cube.Build, percent int) gen.TemplateJob {
	job := gen.TemplateJob{
		TemplateID: string(t.ID), BuildID: string(b.ID), Public: t.Public, Names: t.Names(), Aliases: listOf(t.Aliases),
		CpuCount: b.Resources.CPUs, MemoryMB: b.Resources.MemoryMB, DiskSizeMB: b.Resources.DiskMB,
		CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, LastSpawnedAt: maybe(t.LastSpawnedAt), SpawnCount: t.SpawnCount, BuildCount: t.BuildCount,
		EnvdVersion: envdVersion, JobID: string(b.ID), Status: cubeStatus(b.Status), Phase: cubeStatus(b.Status), Progress: percent,
		ErrorMessage: optional(b.Failure.Message),
	}
	if b.Status == cube.BuildWaiting {
		job.Phase = "WAITING"
	}
	return job
}

// steps are those of a body.
func steps(list *[]gen.BuildStep) []build.Step {
	if list == nil {
		return nil
	}
	var all []build.Step
	for _, s := range *list {
		step := build.Step{Type: s.Type, FilesHash: text(s.FilesHash), Force: s.Force != nil && *s.Force}
		if s.Args != nil {
			step.Args = *s.Args
		}
		all = append(all, step)
	}
	return all
}

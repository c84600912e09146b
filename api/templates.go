package api

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cube"
	"cube/api/gen"
)

// maxTemplatePage is how many templates, or builds, are on one page.
const maxTemplatePage = 100

// GET /templates
//
// The first version has no pages: it lists all.
func (a *api) listTemplates(w http.ResponseWriter, r *http.Request) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	if err := checkTeam(r, query); err != nil {
		return err
	}
	list := []gen.Template{}
	for after := (*cube.TemplateCursor)(nil); ; {
		page, err := a.templates.List(r.Context(), after, maxTemplatePage)
		if err != nil {
			return err
		}
		for _, t := range page {
			list = append(list, template(t))
			after = &cube.TemplateCursor{CreatedAt: t.CreatedAt, ID: string(t.ID)}
		}
		if len(page) == 0 {
			return writeJSON(w, http.StatusOK, append(list, a.ownTemplates(r)...))
		}
	}
}

// checkTeam refuses a list of another team than the caller's.
func checkTeam(r *http.Request, query url.Values) error {
	if team := query.Get("teamID"); team != "" && team != callersTeam(r) {
		return cube.Errorf(cube.Invalid, "validation error: teamID is not your team's: leave it out, or write %q", callersTeam(r))
	}
	return nil
}

// GET /v2/templates
//
// The server's own come last.
func (a *api) listTemplatesV2(w http.ResponseWriter, r *http.Request) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	if err := checkTeam(r, query); err != nil {
		return err
	}
	limit, after, err := templatePage(query)
	if err != nil {
		return err
	}
	page, err := a.templates.List(r.Context(), after, limit+1)
	if err != nil {
		return err
	}
	list := []gen.Template{}
	for _, t := range page[:min(limit, len(page))] {
		list = append(list, template(t))
		after = &cube.TemplateCursor{CreatedAt: t.CreatedAt, ID: string(t.ID)}
	}
	own := a.ownTemplates(r)
	if len(page) > limit || len(list) > 0 && len(list)+len(own) > limit {
		w.Header().Set("X-Next-Token", formatPlace(*after))
	} else {
		list = append(list, own...)
	}
	return writeJSON(w, http.StatusOK, list)
}

// templatePage reads the parameters of a page of templates or builds.
func templatePage(query url.Values) (limit int, after *cube.TemplateCursor, err error) {
	limit = maxTemplatePage
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxTemplatePage {
			return 0, nil, cube.Errorf(cube.Invalid, "validation error: limit must be a number from 1 to %d", maxTemplatePage)
		}
	}
	after, err = parsePlace(query.Get("nextToken"))
	return limit, after, err
}

// formatPlace encodes a place in a list.
func formatPlace(c cube.TemplateCursor) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(c.CreatedAt.UnixMilli(), 10) + " " + c.ID))
}

// parsePlace decodes one that came from outside; nil for "".
func parsePlace(token string) (*cube.TemplateCursor, error) {
	if token == "" {
		return nil, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token[:min(len(token), 128)])
	at, id, found := strings.Cut(string(text), " ")
	ms, number := strconv.ParseInt(at, 10, 64)
	if err != nil || number != nil || !found {
		return nil, cube.Errorf(cube.Invalid, "validation error: nextToken is of no list of this server's")
	}
	return &cube.TemplateCursor{CreatedAt: time.UnixMilli(ms).UTC(), ID: id}, nil
}

// GET /templates/{templateID}
func (a *api) getTemplate(w http.ResponseWriter, r *http.Request) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	limit, after, err := templatePage(query)
	if err != nil {
		return err
	}
	name := r.PathValue("templateID")
	t, err := a.templates.Template(r.Context(), name)
	if err != nil {
		return a.getOwnTemplate(w, r, name, err)
	}
	builds, err := a.templates.Builds(r.Context(), t.ID, after, limit+1)
	if err != nil {
		return err
	}
	if len(builds) > limit {
		builds = builds[:limit]
		last := builds[limit-1]
		w.Header().Set("X-Next-Token", formatPlace(cube.TemplateCursor{CreatedAt: last.CreatedAt, ID: string(last.ID)}))
	}
	answer := gen.TemplateWithBuilds{
		TemplateID: string(t.ID), Public: t.Public, Aliases: listOf(t.Aliases), Names: t.Names(), CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
		LastSpawnedAt: maybe(t.LastSpawnedAt), SpawnCount: t.SpawnCount, Builds: []gen.TemplateBuild{},
		Status: cubeStatus(t.Latest.Status), LastError: optional(t.Latest.Failure.Message),
	}
	for _, b := range builds {
		answer.Builds = append(answer.Builds, templateBuild(b))
	}
	return writeJSON(w, http.StatusOK, answer)
}

// getOwnTemplate answers with a template of the server's, or with why there is
// none of the caller's.
func (a *api) getOwnTemplate(w http.ResponseWriter, r *http.Request, name string, none error) error {
	if cube.KindOf(none) != cube.NotFound {
		return none
	}
	t, err := a.sandboxes.Template(r.Context(), name)
	if err != nil {
		if cube.KindOf(err) == cube.NotFound {
			return none
		}
		return err
	}
	own := a.ownTemplate(t)
	disk, version := own.DiskSizeMB, envdVersion
	return writeJSON(w, http.StatusOK, gen.TemplateWithBuilds{
		TemplateID: own.TemplateID, Public: true, Aliases: own.Aliases, Names: own.Names, CreatedAt: own.CreatedAt, UpdatedAt: own.UpdatedAt,
		Status: own.Status,
		Builds: []gen.TemplateBuild{{
			BuildID: own.BuildID, Status: gen.BuildStatusReady, CreatedAt: own.CreatedAt, UpdatedAt: own.UpdatedAt, FinishedAt: &own.CreatedAt,
			CpuCount: own.CpuCount, MemoryMB: own.MemoryMB, DiskSizeMB: &disk, EnvdVersion: &version,
		}},
	})
}

// PATCH /templates/{templateID}
func (a *api) updateTemplate(w http.ResponseWriter, r *http.Request) error {
	var body gen.TemplateUpdate
	unknown, err := decodeBody(w, r, &body, []string{"public"}, true)
	if err != nil {
		return err
	}
	t, err := a.templates.SetPublic(r.Context(), r.PathValue("templateID"), body.Public)
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	return writeJSON(w, http.StatusOK, gen.UpdatedTemplate{Names: t.Names()})
}

// DELETE /templates/{templateID}
func (a *api) deleteTemplate(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("templateID")
	err := a.templates.Delete(r.Context(), name)
	if err != nil && cube.KindOf(err) == cube.NotFound {
		err = a.sandboxes.DeleteSnapshot(r.Context(), name)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// GET /templates/aliases/{alias}
func (a *api) getTemplateAlias(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("alias")
	t, err := a.templates.Alias(r.Context(), name)
	if err == nil {
		return writeJSON(w, http.StatusOK, gen.TemplateAlias{TemplateID: string(t.ID), Public: t.Public})
	}
	if cube.KindOf(err) != cube.NotFound {
		return err
	}
	own, err := a.sandboxes.Template(r.Context(), name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, gen.TemplateAlias{TemplateID: string(own.ID), Public: true})
}

// ownTemplates are the server's, which everybody may use.
func (a *api) ownTemplates(r *http.Request) []gen.Template {
	list := []gen.Template{}
	for _, t := range a.sandboxes.Templates(r.Context()) {
		list = append(list, a.ownTemplate(t))
	}
	return list
}

func (a *api) ownTemplate(t cube.Template) gen.Template {
	names := append([]string{}, t.Aliases...)
	if len(names) == 0 {
		names = append(names, string(t.ID))
	}
	return gen.Template{
		TemplateID: string(t.ID), BuildID: buildID(t.Snapshot), Aliases: names, Names: names, Public: true,
		CpuCount: t.Resources.CPUs, MemoryMB: t.Resources.MemoryMB, DiskSizeMB: t.Resources.DiskMB,
		CreatedAt: a.started, UpdatedAt: a.started, BuildCount: 1, BuildStatus: gen.BuildStatusReady, Status: cubeStatus(cube.BuildReady), EnvdVersion: envdVersion,
	}
}

func template(t cube.UserTemplate) gen.Template {
	b := t.Latest
	return gen.Template{
		TemplateID: string(t.ID), BuildID: string(b.ID), Aliases: listOf(t.Aliases), Names: t.Names(), Public: t.Public,
		CpuCount: b.Resources.CPUs, MemoryMB: b.Resources.MemoryMB, DiskSizeMB: b.Resources.DiskMB,
		CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, LastSpawnedAt: maybe(t.LastSpawnedAt), SpawnCount: t.SpawnCount,
		BuildCount: t.BuildCount, BuildStatus: gen.BuildStatus(b.Status), EnvdVersion: envdVersion,
		Status: cubeStatus(b.Status), LastError: optional(b.Failure.Message),
	}
}

func templateBuild(b cube.Build) gen.TemplateBuild {
	disk, version := b.Resources.DiskMB, envdVersion
	return gen.TemplateBuild{
		BuildID: string(b.ID), Status: gen.BuildStatus(b.Status), CreatedAt: b.CreatedAt, UpdatedAt: b.UpdatedAt, FinishedAt: maybe(b.FinishedAt),
		CpuCount: b.Resources.CPUs, MemoryMB: b.Resources.MemoryMB, DiskSizeMB: &disk, EnvdVersion: &version,
	}
}

// cubeStatus is the status of a build in the words of CubeSandbox's API.
func cubeStatus(s cube.BuildStatus) string {
	switch s {
	case cube.BuildReady:
		return "READY"
	case cube.BuildError:
		return "FAILED"
	case cube.BuildWaiting, cube.BuildBuilding:
	}
	return "BUILDING"
}

// maybe is nil for the zero time.
func maybe(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// listOf is a list that is never null.
func listOf(list []string) []string { return append([]string{}, list...) }

// buildID is the UUID by which the protocol names what a template was made into:
// another snapshot has another.
func buildID(id cube.SnapshotID) string {
	sum := sha256.Sum256([]byte(id))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8: of one's own making
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// roughly is a time as the protocol's lists have it.
func roughly(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

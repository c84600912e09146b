package api

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cube"
	"cube/api/gen"
	"cube/lifecycle"
)

// GET /templates
func (a *api) listTemplates(w http.ResponseWriter, r *http.Request) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	if err := checkTeam(r, query); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, a.templates(r))
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
// All fit on one page, so that none asks for a next one.
func (a *api) listTemplatesV2(w http.ResponseWriter, r *http.Request) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	if err := checkTeam(r, query); err != nil {
		return err
	}
	list := a.templates(r)
	if limit := query.Get("limit"); limit != "" {
		if n, err := strconv.Atoi(limit); err != nil || n < 1 || n > 100 {
			return cube.Errorf(cube.Invalid, "validation error: limit must be a number from 1 to 100")
		}
	}
	if query.Get("nextToken") != "" {
		return cube.Errorf(cube.Invalid, "validation error: nextToken is of no list of this server's")
	}
	return writeJSON(w, http.StatusOK, list)
}

// GET /templates/aliases/{alias}
func (a *api) getTemplateAlias(w http.ResponseWriter, r *http.Request) error {
	t, err := a.sandboxes.Template(r.Context(), r.PathValue("alias"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, gen.TemplateAlias{TemplateID: string(t.ID), Public: true})
}

// GET /templates/{templateID}/tags
//
// Of a snapshot's name these are what it was kept as; a template has one.
func (a *api) listTemplateTags(w http.ResponseWriter, r *http.Request) error {
	name, _, _ := strings.Cut(r.PathValue("templateID"), ":")
	if t, err := a.sandboxes.Template(r.Context(), name); cube.KindOf(err) != cube.NotFound {
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, []gen.TemplateTag{{Tag: "default", BuildID: buildID(t.Snapshot), CreatedAt: a.started}})
	}
	snapshots, _, err := a.sandboxes.ListSnapshots(r.Context(), lifecycle.SnapshotQuery{Name: name, Tags: true, Limit: lifecycle.MaxPage})
	if err != nil {
		return err
	}
	if len(snapshots) == 0 {
		return cube.Errorf(cube.NotFound, "Template %.64q not found: GET /templates and GET /snapshots list what there is", name)
	}
	list, seen := []gen.TemplateTag{}, map[string]bool{}
	for _, s := range snapshots { // newest first
		if !seen[s.Tag] {
			list = append(list, gen.TemplateTag{Tag: s.Tag, BuildID: buildID(s.ID), CreatedAt: s.CreatedAt})
		}
		seen[s.Tag] = true
	}
	return writeJSON(w, http.StatusOK, list)
}

func (a *api) templates(r *http.Request) []gen.Template {
	list := []gen.Template{}
	for _, t := range a.sandboxes.Templates(r.Context()) {
		names := append([]string{}, t.Aliases...)
		if len(names) == 0 {
			names = append(names, string(t.ID))
		}
		list = append(list, gen.Template{
			TemplateID: string(t.ID), BuildID: buildID(t.Snapshot), Aliases: names, Names: names, Public: true,
			CpuCount: t.Resources.CPUs, MemoryMB: t.Resources.MemoryMB, DiskSizeMB: t.Resources.DiskMB,
			CreatedAt: a.started, UpdatedAt: a.started, BuildCount: 1, BuildStatus: gen.Ready, EnvdVersion: envdVersion,
		})
	}
	return list
}

// buildID is the UUID by which the protocol names what a template was made into:
// another snapshot has another.
func buildID(id cube.SnapshotID) string {
	sum := sha256.Sum256([]byte(id))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8: of one's own making
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// roughly is a time as the protocol's lists have it.
func roughly(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

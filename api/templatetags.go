package api

import (
	"net/http"
	"strings"

	"cube"
	"cube/api/gen"
	"cube/lifecycle"
)

// POST /templates/tags
func (a *api) assignTags(w http.ResponseWriter, r *http.Request) error {
	var body gen.TagAssignment
	unknown, err := decodeBody(w, r, &body, []string{"target", "tags"}, false)
	if err != nil {
		return err
	}
	id, tags, err := a.templates.Tag(r.Context(), body.Target, body.Tags)
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	return writeJSON(w, http.StatusCreated, gen.AssignedTags{BuildID: string(id), Tags: tags})
}

// DELETE /templates/tags
func (a *api) deleteTags(w http.ResponseWriter, r *http.Request) error {
	var body gen.TagDeletion
	unknown, err := decodeBody(w, r, &body, []string{"name", "tags"}, false)
	if err != nil {
		return err
	}
	if err := a.templates.Untag(r.Context(), body.Name, body.Tags); err != nil {
		return err
	}
	warnUnknown(w, unknown)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// GET /templates/{templateID}/tags
func (a *api) listTemplateTags(w http.ResponseWriter, r *http.Request) error {
	tags, err := a.templates.Tags(r.Context(), r.PathValue("templateID"))
	if err != nil {
		if cube.KindOf(err) == cube.NotFound {
			return a.listOtherTags(w, r)
		}
		return err
	}
	list := []gen.TemplateTag{}
	for _, t := range tags {
		list = append(list, gen.TemplateTag{Tag: t.Name, BuildID: string(t.Build), CreatedAt: t.AssignedAt})
	}
	return writeJSON(w, http.StatusOK, list)
}

// listOtherTags lists what a snapshot's name was kept as; a template of the
// server's has one tag.
func (a *api) listOtherTags(w http.ResponseWriter, r *http.Request) error {
	name, _, _ := strings.Cut(r.PathValue("templateID"), ":")
	if t, err := a.sandboxes.Template(r.Context(), name); cube.KindOf(err) != cube.NotFound {
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, []gen.TemplateTag{{Tag: "default", BuildID: buildID(t.Snapshot), CreatedAt: a.started}})
	}
	snapshots, _, err := a.sandboxes.ListSnapshots(r.Context(), lifecycle.SnapshotQuery{Name: name, Tags: true, Limit: lifecycle.MaxPage})
	if err != nil && cube.KindOf(err) != cube.Invalid {
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

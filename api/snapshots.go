package api

import (
	"net/http"
	"strconv"

	"cube"
	"cube/api/gen"
	"cube/lifecycle"
)

// POST /sandboxes/{sandboxID}/snapshots
func (a *api) createSnapshot(w http.ResponseWriter, r *http.Request) error {
	id, err := sandboxID(r)
	if err != nil {
		return err
	}
	var body gen.NewSnapshot
	unknown, err := decodeBody(w, r, &body, []string{"name"}, true)
	if err != nil {
		return err
	}
	snapshot, err := a.sandboxes.CreateSnapshot(r.Context(), id, body.Name)
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	return writeJSON(w, http.StatusCreated, snapshotInfo(snapshot))
}

// GET /snapshots
func (a *api) listSnapshots(w http.ResponseWriter, r *http.Request) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	q := lifecycle.SnapshotQuery{
		Sandbox: cube.SandboxID(query.Get("sandboxID")), Name: query.Get("name"),
		Limit: lifecycle.MaxPage, Cursor: query.Get("nextToken"),
	}
	if limit := query.Get("limit"); limit != "" {
		if q.Limit, err = strconv.Atoi(limit); err != nil || q.Limit < 1 || q.Limit > lifecycle.MaxPage {
			return cube.Errorf(cube.Invalid, "validation error: limit must be a number from 1 to %d", lifecycle.MaxPage)
		}
	}
	page, next, err := a.sandboxes.ListSnapshots(r.Context(), q)
	if err != nil {
		return err
	}
	list := []gen.SnapshotInfo{}
	for _, snapshot := range page {
		list = append(list, snapshotInfo(snapshot))
	}
	if next != "" {
		w.Header().Set("X-Next-Token", next)
	}
	return writeJSON(w, http.StatusOK, list)
}

func snapshotInfo(s cube.Snapshot) gen.SnapshotInfo {
	info := gen.SnapshotInfo{SnapshotID: string(s.ID) + ":" + s.Tag, Names: []string{}}
	if s.Name != "" {
		info.SnapshotID, info.Names = s.Name+":"+s.Tag, []string{s.Name}
	}
	return info
}

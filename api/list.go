package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cube"
	"cube/api/gen"
	"cube/lifecycle"
)

// GET /sandboxes
//
// The first version has no pages: it lists all.
func (a *api) listRunningSandboxes(w http.ResponseWriter, r *http.Request) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	metadata, err := parseMetadata(query.Get("metadata"))
	if err != nil {
		return err
	}
	list := []gen.ListedSandbox{}
	q := lifecycle.Query{Metadata: metadata, States: []cube.State{cube.Running}, Limit: lifecycle.MaxPage}
	for {
		page, err := a.sandboxes.List(r.Context(), q)
		if err != nil {
			return err
		}
		for _, s := range page.Sandboxes {
			list = append(list, listedSandbox(s))
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return writeJSON(w, http.StatusOK, list)
		}
	}
}

// GET /v2/sandboxes
func (a *api) listSandboxes(w http.ResponseWriter, r *http.Request) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	q, err := listQuery(query)
	if err != nil {
		return err
	}
	list := []gen.ListedSandbox{}
	page, err := a.sandboxes.List(r.Context(), q)
	if err != nil {
		return err
	}
	for _, s := range page.Sandboxes {
		list = append(list, listedSandbox(s))
	}
	if page.NextCursor != "" {
		w.Header().Set("X-Next-Token", page.NextCursor)
	}
	w.Header().Set("X-Total-Running", strconv.Itoa(page.TotalRunning))
	return writeJSON(w, http.StatusOK, list)
}

func parseQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, cube.WrapError(cube.Invalid, err, "validation error: the query cannot be read: %v", err)
	}
	return query, nil
}

// listQuery reads the parameters of a page.
func listQuery(query url.Values) (q lifecycle.Query, err error) {
	invalid := func(name, what string) (lifecycle.Query, error) {
		return lifecycle.Query{}, cube.Errorf(cube.Invalid, "validation error: %s must be %s", name, what)
	}
	q = lifecycle.Query{Limit: lifecycle.MaxPage, Template: query.Get("template"), Cursor: query.Get("nextToken")}
	if q.Metadata, err = parseMetadata(query.Get("metadata")); err != nil {
		return q, err
	}
	if limit := query.Get("limit"); limit != "" {
		if q.Limit, err = strconv.Atoi(limit); err != nil || q.Limit < 1 || q.Limit > lifecycle.MaxPage {
			return invalid("limit", "a number from 1 to "+strconv.Itoa(lifecycle.MaxPage))
		}
	}
	switch query.Get("order") {
	case "", "desc":
	case "asc":
		q.Ascending = true
	default:
		return invalid("order", "asc or desc")
	}
	if after := query.Get("startedAfter"); after != "" {
		if q.StartedAfter, err = time.Parse(time.RFC3339, after); err != nil {
			return invalid("startedAfter", "a time such as 2026-01-02T15:04:05Z")
		}
	}
	for _, value := range query["state"] {
		for name := range strings.SplitSeq(value, ",") {
			state := gen.SandboxState(name)
			if name == "" {
				continue
			}
			if !state.Valid() {
				return invalid("state", "running, paused, or both separated by a comma")
			}
			q.States = append(q.States, cube.State(state))
		}
	}
	return q, nil
}

// parseMetadata reads the filter. E2B's SDKs escape each key and value, make a
// query string of the pairs with escaping again, and put that into the query,
// which was unescaped once when it came here.
func parseMetadata(filter string) (map[string]string, error) {
	if filter == "" {
		return nil, nil
	}
	pairs, err := url.ParseQuery(filter)
	if err != nil {
		return nil, cube.Errorf(cube.Invalid, "validation error: metadata must be pairs such as user=abc&app=prod, escaped")
	}
	if len(pairs) > maxPairs {
		return nil, cube.Errorf(cube.Invalid, "validation error: metadata has %d pairs: at most %d are taken, as of a sandbox", len(pairs), maxPairs)
	}
	metadata := map[string]string{}
	for escapedKey, values := range pairs {
		key, err := url.QueryUnescape(escapedKey)
		if err != nil {
			return nil, cube.Errorf(cube.Invalid, "validation error: metadata has a key whose escapes cannot be read")
		}
		if len(values) != 1 {
			return nil, cube.Errorf(cube.Invalid, "validation error: metadata names %.64q more than once: no sandbox can have both values", key)
		}
		if metadata[key], err = url.QueryUnescape(values[0]); err != nil {
			return nil, cube.Errorf(cube.Invalid, "validation error: metadata has a value for %.64q whose escapes cannot be read", key)
		}
	}
	return metadata, nil
}

package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// as creates something in the name of a key's team, which must come to be.
func (s *server) as(key, path string, form map[string]any) (created struct{ SandboxID, SnapshotID string }) {
	s.t.Helper()
	status, body := s.call("POST", path, form, "X-API-Key", key)
	if err := json.Unmarshal(body, &created); status != http.StatusCreated || err != nil {
		s.t.Fatalf("POST %s: %d %s", path, status, body)
	}
	return created
}

// TestATeamCannotReachAnothersSnapshot tries all that one can do with a snapshot,
// by its id and by its name, with another team's: it must be answered like one
// that never was.
func TestATeamCannotReachAnothersSnapshot(t *testing.T) {
	s := start(t, "--auth-callback-url", teams(t), "--auth-tenancy", "team")
	parent := s.as(redKey, "/v2/sandboxes", map[string]any{"templateID": "base", "timeout": 300}).SandboxID
	unnamed := s.as(redKey, "/sandboxes/"+parent+"/snapshots", map[string]any{}).SnapshotID
	named := s.as(redKey, "/sandboxes/"+parent+"/snapshots", map[string]any{"name": "reds"}).SnapshotID
	id, _, _ := strings.Cut(unnamed, ":")

	absent := map[string]string{id: "saaaaaaaaaaaaaaaaaaaaaaaa", unnamed: "saaaaaaaaaaaaaaaaaaaaaaaa:default", "reds": "absentee", named: "absentee:default"}
	for foreign, missing := range absent {
		for _, ask := range []struct {
			method, path string
			form         map[string]any
		}{
			{"DELETE", "/templates/NAME", nil},
			{"GET", "/templates/NAME", nil},
			{"GET", "/templates/NAME/tags", nil},
			{"GET", "/templates/aliases/NAME", nil},
			{"GET", "/snapshots?name=NAME", nil},
			{"GET", "/snapshots?name=NAME&sandboxID=" + parent, nil},
			{"POST", "/v2/sandboxes", map[string]any{"templateID": "NAME", "timeout": 60}},
			{"POST", "/sandboxes", map[string]any{"templateID": "NAME", "timeout": 60}},
		} {
			answer := func(name string) (int, string) {
				form := any(nil)
				if ask.form != nil {
					form = map[string]any{"templateID": name, "timeout": 60}
				}
				status, body := s.call(ask.method, strings.ReplaceAll(ask.path, "NAME", name), form, "X-API-Key", blueKey)
				plain, _, _ := strings.Cut(name, ":")
				return status, strings.ReplaceAll(string(body), plain, "NAME")
			}
			got, gotBody := answer(foreign)
			want, wantBody := answer(missing)
			if got != want || gotBody != wantBody {
				t.Errorf("%s %s with %s: %d %s; with one that is not there %d %s", ask.method, ask.path, foreign, got, gotBody, want, wantBody)
			}
			if got < 400 && strings.TrimSpace(gotBody) != "[]" {
				t.Errorf("%s %s with %s: %d %s", ask.method, ask.path, foreign, got, gotBody)
			}
		}
	}
	for _, path := range []string{"/snapshots", "/snapshots?sandboxID=" + parent, "/templates", "/v2/templates", "/v2/sandboxes"} {
		if status, body := s.call("GET", path, nil, "X-API-Key", blueKey); status != 200 || strings.Contains(string(body), id) || strings.Contains(string(body), "reds") {
			t.Errorf("GET %s shows the other team's: %d %s", path, status, body)
		}
	}

	// A name is a team's own, and whoever may not reach a snapshot may use its name.
	own := s.as(blueKey, "/v2/sandboxes", map[string]any{"templateID": "base", "timeout": 300}).SandboxID
	s.as(blueKey, "/sandboxes/"+own+"/snapshots", map[string]any{"name": "reds"})
	if status, body := s.call("DELETE", "/templates/reds", nil, "X-API-Key", blueKey); status != http.StatusNoContent {
		t.Errorf("deleting one's own: %d %s", status, body)
	}
	for _, name := range []string{unnamed, "reds"} {
		s.as(redKey, "/v2/sandboxes", map[string]any{"templateID": name, "timeout": 60})
		if status, body := s.call("DELETE", "/templates/"+name, nil, "X-API-Key", redKey); status != http.StatusNoContent {
			t.Errorf("deleting %s by its own team: %d %s", name, status, body)
		}
	}
}

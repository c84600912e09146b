package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// TestATeamCannotTouchAnothersTemplate tries every route of the document that
// names a template, in its path or its body, with the id and the name of another
// team's: it must be answered like one that never was.
func TestATeamCannotTouchAnothersTemplate(t *testing.T) {
	s := start(t, "--auth-callback-url", teams(t), "--auth-tenancy", "team")
	status, body := s.call("POST", "/v3/templates", map[string]any{"name": "reds", "cpuCount": 1, "memoryMB": 256}, "X-API-Key", redKey)
	var reds struct{ TemplateID, BuildID string }
	if err := json.Unmarshal(body, &reds); status != http.StatusAccepted || err != nil {
		t.Fatalf("asking for a template: %d %s", status, body)
	}
	_, document := s.call("GET", "/openapi.yaml", nil, "X-API-Key", blueKey)
	api, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	absent := map[string]string{reds.TemplateID: "absentabsentabsent00", "reds": "absentee", "red%2Freds": "red%2Fabsentee"}
	routes := 0
	for path, item := range api.Paths.Map() {
		for method := range item.Operations() {
			inBody := path == "/templates/tags"
			if !inBody && !strings.Contains(path, "{templateID}") && !strings.Contains(path, "{alias}") {
				continue
			}
			routes++
			for foreign, missing := range absent {
				ask := func(name, key string) (int, string) {
					target := strings.NewReplacer("{templateID}", name, "{alias}", name, "{buildID}", reds.BuildID, "{hash}", strings.Repeat("a", 64)).Replace(path)
					plain := strings.Replace(name, "%2F", "/", 1)
					var form any
					if method != http.MethodGet {
						form = map[string]any{"target": plain, "name": plain, "tags": []string{"x"}, "public": true, "image": "x", "steps": []any{}}
					}
					status, body := s.call(method, target, form, "X-API-Key", key)
					text := strings.NewReplacer(plain, "NAME", plain[strings.Index(plain, "/")+1:], "NAME").Replace(string(body))
					return status, text
				}
				got, gotBody := ask(foreign, blueKey)
				want, wantBody := ask(missing, blueKey)
				if got != want || gotBody != wantBody || got < 400 {
					t.Errorf("%s %s of %s: the other team's is %d %s, one that is not there %d %s", method, path, foreign, got, gotBody, want, wantBody)
				}
				if got, body := ask(foreign, nobodysKey); got != http.StatusForbidden {
					t.Errorf("%s %s by nobody: %d %s, want 403", method, path, got, body)
				}
			}
		}
	}
	if routes < 14 {
		t.Errorf("%d routes name a template, want at least 14", routes)
	}
	for _, path := range []string{"/templates", "/v2/templates"} {
		for key, want := range map[string]bool{redKey: true, blueKey: false, fullKey: true} {
			if _, body := s.call("GET", path, nil, "X-API-Key", key); strings.Contains(string(body), reds.TemplateID) != want {
				t.Errorf("GET %s of %s is %s", path, key, body)
			}
		}
	}
	if status, body := s.call("GET", "/templates/reds", nil, "X-API-Key", redKey); status != http.StatusOK || !strings.Contains(string(body), `"status":"waiting"`) {
		t.Errorf("to its own team it is %d %s", status, body)
	}

	// A name is a team's own.
	if status, body := s.call("POST", "/v3/templates", map[string]any{"name": "reds"}, "X-API-Key", blueKey); status != http.StatusAccepted || strings.Contains(string(body), reds.TemplateID) {
		t.Errorf("the same name for another team: %d %s", status, body)
	}

	// What is public may be used, and nothing else.
	if status, body := s.call("PATCH", "/v2/templates/reds", map[string]any{"public": true}, "X-API-Key", redKey); status != http.StatusOK {
		t.Errorf("publishing it: %d %s", status, body)
	}
	for _, row := range []struct {
		method, path string
		form         any
		want         int
	}{
		{"GET", "/templates/aliases/" + reds.TemplateID, nil, http.StatusForbidden},
		{"GET", "/templates/aliases/red%2Freds", nil, http.StatusForbidden},
		{"DELETE", "/templates/red%2Freds", nil, http.StatusForbidden},
		{"PATCH", "/v2/templates/" + reds.TemplateID, map[string]any{"public": false}, http.StatusForbidden},
		{"POST", "/sandboxes", map[string]any{"templateID": "red/reds"}, http.StatusConflict}, // it is not built
	} {
		if status, body := s.call(row.method, row.path, row.form, "X-API-Key", blueKey); status != row.want {
			t.Errorf("%s %s of a public one: %d %s, want %d", row.method, row.path, status, body, row.want)
		}
	}
}

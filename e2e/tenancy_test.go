package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// The keys of two teams, and of somebody whom the service lets pass without
// saying who it is.
const (
	redKey     = "e2b_00000000000000000000000000000000000000a1"
	blueKey    = "e2b_00000000000000000000000000000000000000b1"
	nobodysKey = "e2b_00000000000000000000000000000000000000c1"
)

// teams is an operator's service that says whose a key is.
func teams(t *testing.T) string {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-API-Key") {
		case redKey:
			w.Header().Set("X-Auth-Team", "red")
			w.Header().Set("X-Auth-Subject", "ada")
		case blueKey:
			w.Header().Set("X-Auth-Team", "blue")
			w.Header().Set("X-Auth-Subject", "bob")
		case fullKey:
			w.Header().Set("X-Auth-Scopes", "cube:operator")
		case nobodysKey:
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(service.Close)
	return service.URL
}

// TestATeamCannotTouchAnothersSandbox tries every route of the document that
// names a sandbox, with the id of another team's: it must be answered like an id
// that never was.
func TestATeamCannotTouchAnothersSandbox(t *testing.T) {
	s := start(t, "--auth-callback-url", teams(t), "--auth-tenancy", "team")
	status, body := s.call("POST", "/v2/sandboxes", map[string]any{"templateID": "base", "timeout": 300, "metadata": map[string]string{"a": "b"}}, "X-API-Key", redKey)
	var reds sandbox
	if err := json.Unmarshal(body, &reds); status != http.StatusCreated || err != nil {
		t.Fatalf("creating: %d %s", status, body)
	}
	const absent = "i00000000000000000000"

	_, document := s.call("GET", "/openapi.yaml", nil, "X-API-Key", blueKey)
	api, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	routes := 0
	for path, item := range api.Paths.Map() {
		for method := range item.Operations() {
			if !strings.Contains(path, "{sandboxID}") {
				if method == http.MethodGet {
					if _, body := s.call(method, path, nil, "X-API-Key", blueKey); strings.Contains(string(body), reds.SandboxID) {
						t.Errorf("%s %s shows the other team's sandbox: %s", method, path, body)
					}
				}
				continue
			}
			routes++
			for _, form := range []any{nil, map[string]any{"timeout": 10, "duration": 10}} {
				ask := func(id string) (int, string) {
					status, body := s.call(method, strings.ReplaceAll(path, "{sandboxID}", id), form, "X-API-Key", blueKey)
					return status, strings.ReplaceAll(string(body), id, "ID")
				}
				foreign, foreignBody := ask(reds.SandboxID)
				missing, missingBody := ask(absent)
				if foreign != missing || foreignBody != missingBody || foreign < 400 {
					t.Errorf("%s %s: the other team's is %d %s, one that is not there %d %s", method, path, foreign, foreignBody, missing, missingBody)
				}
				if status, body := s.call(method, strings.ReplaceAll(path, "{sandboxID}", reds.SandboxID), form, "X-API-Key", nobodysKey); status != http.StatusForbidden {
					t.Errorf("%s %s by nobody: %d %s, want 403", method, path, status, body)
				}
			}
		}
	}
	if routes < 6 {
		t.Errorf("%d routes name a sandbox, want at least 6", routes)
	}
	for key, want := range map[string]bool{redKey: true, blueKey: false, fullKey: true} {
		_, body := s.call("GET", "/v2/sandboxes", nil, "X-API-Key", key)
		if strings.Contains(string(body), reds.SandboxID) != want {
			t.Errorf("the list of %s is %s", key, body)
		}
	}
	if status, body := s.call("GET", "/no/such/path", nil, "X-API-Key", nobodysKey); status != http.StatusForbidden {
		t.Errorf("an unknown path by nobody: %d %s, want 403", status, body)
	}
	if status := s.health(reds.SandboxID); status != http.StatusNoContent {
		t.Errorf("the sandbox's health is %d after all this", status)
	}
	if status, body := s.call("GET", "/sandboxes/"+reds.SandboxID, nil, "X-API-Key", redKey); status != http.StatusOK {
		t.Errorf("to its own team it is %d %s", status, body)
	}
}

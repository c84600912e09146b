package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cube"
	"cube/auth/decision"
	"cube/auth/keys"
	"cube/store/sqlite"
)

// keyHolders is the API for people with keys of the server's own.
type keyHolders struct {
	http.Handler
	keys  *keys.Keys
	store cube.APIKeyStore
}

func newKeyHolders(t *testing.T, tenancy cube.Tenancy) *keyHolders {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "cube.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	rows, err := store.APIKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own := keys.New(keys.Config{Store: rows, Tenancy: tenancy})
	return &keyHolders{Handler: New(Config{Keys: own}), keys: own, store: rows}
}

// issue makes a key as the operator does, and returns it and its id.
func (h *keyHolders) issue(t *testing.T, r keys.Request) (secret string, id cube.APIKeyID) {
	t.Helper()
	key, secret, err := keys.Issue(t.Context(), h.store, r)
	if err != nil {
		t.Fatal(err)
	}
	return secret, key.ID
}

// call sends a request with a key, as the door lets it through: "" is nobody.
func (h *keyHolders) call(t *testing.T, secret, method, target, body string, value any) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if secret != "" {
		answer, err := h.keys.Decide(t.Context(), decision.Question{
			Credential: decision.Credential{Kind: decision.APIKey, Secret: secret}, Path: target, Method: method,
		})
		if err != nil || !answer.Allowed {
			t.Fatalf("%s %s: the key does not open the door: %+v, %v", method, target, answer, err)
		}
		r = r.WithContext(cube.WithIdentity(r.Context(), answer.Identity))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if value != nil {
		if err := json.NewDecoder(w.Result().Body).Decode(value); err != nil {
			t.Fatalf("%s %s: %d: %v", method, target, w.Code, err)
		}
	}
	return w.Result()
}

// names lists what a key sees.
func (h *keyHolders) names(t *testing.T, secret string) string {
	t.Helper()
	var list []struct{ Name string }
	if resp := h.call(t, secret, "GET", "/api-keys", "", &list); resp.StatusCode != 200 {
		t.Fatalf("listing: %s", resp.Status)
	}
	var names []string
	for _, k := range list {
		names = append(names, k.Name)
	}
	return strings.Join(names, " ")
}

func TestAKeysWholeLife(t *testing.T) {
	h := newKeyHolders(t, cube.TenancyOff)
	first, _ := h.issue(t, keys.Request{Name: "first"})

	var created map[string]any
	resp := h.call(t, first, "POST", "/api-keys", `{"name":"second","colour":1}`, &created)
	if resp.StatusCode != 201 || resp.Header.Get("Cache-Control") != "no-store" || !strings.Contains(resp.Header.Get("Warning"), "colour") {
		t.Fatalf("created: %s %v, headers %v", resp.Status, created, resp.Header)
	}
	secret, id := created["key"].(string), created["id"].(string)
	want := map[string]any{
		"id": id, "key": secret, "name": "second", "createdAt": created["createdAt"],
		"mask": map[string]any{
			"prefix": "e2b_", "valueLength": 40.0, "maskedValuePrefix": secret[4:6], "maskedValueSuffix": secret[40:],
		},
	}
	if diff := cmp.Diff(want, created); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}

	if resp := h.call(t, secret, "PATCH", "/api-keys/"+id, `{"name":"other"}`, nil); resp.StatusCode != 200 || resp.ContentLength > 0 {
		t.Errorf("renamed: %s with %d bytes", resp.Status, resp.ContentLength)
	}
	var list []map[string]any
	h.call(t, first, "GET", "/api-keys", "", &list)
	delete(want, "key")
	want["name"] = "other"
	// Keys of one millisecond are in the order of their ids.
	slices.SortFunc(list, func(a, b map[string]any) int { return strings.Compare(fmt.Sprint(a["name"]), fmt.Sprint(b["name"])) })
	if len(list) != 2 || list[0]["name"] != "first" {
		t.Fatalf("the list is %v", list)
	}
	if diff := cmp.Diff(want, list[1]); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}

	if resp := h.call(t, first, "DELETE", "/api-keys/"+id, "", nil); resp.StatusCode != 204 {
		t.Errorf("revoked: %s", resp.Status)
	}
	if got := h.names(t, first); got != "first" {
		t.Errorf("afterwards there are %q", got)
	}
	if resp := h.call(t, first, "DELETE", "/api-keys/"+id, "", nil); resp.StatusCode != 404 {
		t.Errorf("revoked again: %s", resp.Status)
	}
}

func TestRequestsForKeysThatAreRefused(t *testing.T) {
	h := newKeyHolders(t, cube.TenancyTeam)
	reds, redsID := h.issue(t, keys.Request{Name: "red", Owner: cube.Owner{Team: "red"}})
	blues, bluesID := h.issue(t, keys.Request{Name: "blue", Owner: cube.Owner{Team: "blue"}})
	teamless, _ := h.issue(t, keys.Request{Name: "teamless"})
	for _, test := range []struct {
		name, secret, method, target, body string
		want                               int
		message                            string
	}{
		{"no body", reds, "POST", "/api-keys", ``, 400, "The body is empty"},
		{"no object", reds, "POST", "/api-keys", `["name"]`, 400, "must be a JSON object"},
		{"no name", reds, "POST", "/api-keys", `{}`, 400, "1 to 64"},
		{"a name of another type", reds, "POST", "/api-keys", `{"name":7}`, 400, `"name"`},
		{"a name that cannot be printed", reds, "POST", "/api-keys", `{"name":"a\u0007"}`, 400, "printable"},
		{"a name that is in use", reds, "POST", "/api-keys", `{"name":"red"}`, 409, `"red"`},
		{"no new name", reds, "PATCH", "/api-keys/" + string(redsID), `{}`, 400, "1 to 64"},
		{"an id that is none", reds, "PATCH", "/api-keys/x", `{"name":"a"}`, 404, "not found"},
		{"a key that is not there", reds, "DELETE", "/api-keys/" + string(cube.NewAPIKeyID()), ``, 404, "not found"},
		{"another team's key, renamed", reds, "PATCH", "/api-keys/" + string(bluesID), `{"name":"a"}`, 404, "API key " + string(bluesID) + " not found"},
		{"another team's key, revoked", reds, "DELETE", "/api-keys/" + string(bluesID), ``, 404, "API key " + string(bluesID) + " not found"},
		{"a key without a team", teamless, "GET", "/api-keys", ``, 403, "ask its operator"},
		{"no key, through an open door", "", "POST", "/api-keys", `{"name":"a"}`, 403, "cube-api keys create"},
		{"no key, through an open door", "", "GET", "/api-keys", ``, 403, "cube-api keys create"},
		{"a method that is not there", reds, "PUT", "/api-keys", `{}`, 405, "GET, POST"},
	} {
		var got struct {
			Code    int
			Message string
		}
		resp := h.call(t, test.secret, test.method, test.target, test.body, &got)
		if resp.StatusCode != test.want || got.Code != test.want || !strings.Contains(got.Message, test.message) {
			t.Errorf("%s: %s %+v, want %d with %q", test.name, resp.Status, got, test.want, test.message)
		}
	}
	if red, blue := h.names(t, reds), h.names(t, blues); red != "red" || blue != "blue" {
		t.Errorf("afterwards the teams have %q and %q", red, blue)
	}
}

func TestWhereACallbackDecidesThereAreNoKeys(t *testing.T) {
	h := newAPI(t)
	for _, request := range [][2]string{
		{"GET", "/api-keys"}, {"POST", "/api-keys"},
		{"PATCH", "/api-keys/" + string(cube.NewAPIKeyID())}, {"DELETE", "/api-keys/" + string(cube.NewAPIKeyID())},
	} {
		var got struct {
			Code    int
			Message string
		}
		resp := call(t, h, request[0], request[1], `{"name":"a"}`, &got)
		if resp.StatusCode != 501 || got.Code != 501 || !strings.Contains(got.Message, "auth service") {
			t.Errorf("%s %s: %s %+v, want 501 that names the auth service", request[0], request[1], resp.Status, got)
		}
	}
}

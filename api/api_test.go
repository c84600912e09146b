package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube"
	"cube/api/gen"
	"cube/build"
	"cube/engine/fake"
	"cube/lifecycle"
	"cube/store/sqlite"
)

// newAPI returns the API over the engine in memory and a real store.
func newAPI(t *testing.T) http.Handler {
	t.Helper()
	return newAPIOn(t, &fake.Engine{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func newAPIOn(t *testing.T, engine *fake.Engine, log *slog.Logger) http.Handler {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "cube.db"))
	if err != nil {
		t.Fatal(err)
	}
	resources := cube.Resources{CPUs: 2, MemoryMB: 512, DiskMB: 1024, Pids: 64}
	own := []cube.Template{{ID: "base", Snapshot: cube.BaseSnapshot, Resources: resources}}
	templates, err := build.NewService(build.ServiceConfig{
		Store: store, Dir: t.TempDir(), Own: own, Resources: resources, MaxMemoryMB: 1 << 16, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	sandboxes := lifecycle.New(lifecycle.Config{
		Store: store, Engine: engine, Log: log, Templates: own, Catalog: templates,
	})
	t.Cleanup(func() {
		templates.Close()
		sandboxes.Close()
		left, _ := engine.List(context.Background())
		for _, s := range left {
			_ = engine.Stop(context.Background(), s.ID)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := sandboxes.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := templates.Begin(t.Context(), standIn{engine}, sandboxes, engine); err != nil {
		t.Fatal(err)
	}
	return New(Config{Sandboxes: sandboxes, Templates: templates, Domain: "cube.test", Log: log})
}

// call sends a request and decodes the answer into value, if that is not nil.
func call(t *testing.T, h http.Handler, method, target, body string, value any) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	resp := w.Result()
	if value != nil {
		if err := json.NewDecoder(resp.Body).Decode(value); err != nil {
			t.Fatalf("%s %s: %s: %v", method, target, resp.Status, err)
		}
	}
	return resp
}

// create creates a sandbox and returns its answer.
func create(t *testing.T, h http.Handler, target, body string) map[string]any {
	t.Helper()
	var got map[string]any
	if resp := call(t, h, "POST", target, body, &got); resp.StatusCode != http.StatusCreated {
		t.Fatalf("creating with %s: %s %v", body, resp.Status, got)
	}
	return got
}

func TestCreateAnswersWithE2BsSandbox(t *testing.T) {
	h := newAPI(t)
	got := create(t, h, "/v2/sandboxes", `{"templateID":"base"}`)
	if _, err := cube.ParseSandboxID(got["sandboxID"].(string)); err != nil {
		t.Error(err)
	}
	if token, ok := got["envdAccessToken"].(string); !ok || len(token) < 20 {
		t.Errorf("the access token is %v", got["envdAccessToken"])
	}
	delete(got, "sandboxID")
	delete(got, "envdAccessToken")
	want := map[string]any{"templateID": "base", "clientID": "cube", "envdVersion": "0.6.13", "domain": "cube.test"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the rest (-want +got):\n%s", diff)
	}
}

func TestTheTwoVersionsDifferInTimeoutAndSecurity(t *testing.T) {
	h := newAPI(t)
	for _, row := range []struct {
		target, body string
		seconds      float64
		secured      bool
	}{
		{"/sandboxes", `{"templateID":"base"}`, 15, false},
		{"/sandboxes", `{"templateID":"base","secure":true,"timeout":60}`, 60, true},
		{"/v2/sandboxes", `{"templateID":"base"}`, 300, true},
	} {
		created := create(t, h, row.target, row.body)
		if _, secured := created["envdAccessToken"]; secured != row.secured {
			t.Errorf("%s %s: secured %v, want %v", row.target, row.body, secured, row.secured)
		}
		var detail struct{ StartedAt, EndAt time.Time }
		call(t, h, "GET", "/sandboxes/"+created["sandboxID"].(string), "", &detail)
		if got := detail.EndAt.Sub(detail.StartedAt).Seconds(); got < row.seconds || got > row.seconds+5 {
			t.Errorf("%s %s: lives %v s, want %v", row.target, row.body, got, row.seconds)
		}
	}
}

func TestDefaultsOfWhatIsNotServedAreAccepted(t *testing.T) {
	h := newAPI(t)
	for _, fields := range []string{
		`"autoPause":false`, `"autoPauseMemory":true`, `"autoResume":{"enabled":false}`, `"autoResume":null`, `"mcp":null`, `"mcp":{}`,
		// The SDK starts the gateway itself, and takes a failure as its own.
		`"mcp":{"github":{"token":"x"}}`,
		`"network":{}`, `"network":{"allowOut":[],"denyOut":null,"allowPublicTraffic":true,"rules":{}}`, `"volumeMounts":[]`, `"iam":{"tokens":{}}`,
		`"allow_internet_access":true`, `"metadata":null`, `"envVars":{}`,
	} {
		resp := call(t, h, "POST", "/sandboxes", `{"templateID":"base",`+fields+`}`, nil)
		if resp.StatusCode != 201 || resp.Header.Get("Warning") != "" {
			t.Errorf("%s: %s, Warning %q", fields, resp.Status, resp.Header.Get("Warning"))
		}
	}
}

func TestWhatIsNotServedIsRefusedByName(t *testing.T) {
	h := newAPI(t)
	for fields, name := range map[string]string{
		`"autoPauseMemory":false`:        "autoPauseMemory",
		`"autoPause":"yes"`:              "autoPause",
		`"autoResume":{"enabled":"yes"}`: "enabled",
		`"autoPause":true,"autoPauseMemory":false,"autoResume":{"enabled":true}`: "autoResume",
		`"autoResume":{"when":"now"}`:                                            "autoResume.when",
		`"mcp":"github"`:                                                         "mcp",
		`"network":{"httpsPorts":[70000]}`:                                       "network.httpsPorts",
		`"network":{"httpsPorts":[49983]}`:                                       "network.httpsPorts",
		`"network":{"maskRequestHost":"a b"}`:                                    "mask request host",
		`"network":{"maskRequestHost":"a\r\nX: y"}`:                              "mask request host",
		`"network":{"unheardOf":1}`:                                              "network.unheardOf",
		`"network":{"allowOut":["google.com"]}`:                                  "ALL_TRAFFIC",
		`"network":{"denyOut":["google.com"]}`:                                   "google.com",
		`"network":{"rules":{"a.com":[{},{}]}}`:                                  "transform rule",
		`"network":{"allowPublicTraffic":"no"}`:                                  "network.allowPublicTraffic",
		`"network":[1]`:                                                          "network",
		`"volumeMounts":[{"name":"a"}]`:                                          "volumeMounts",
		`"iam":{"tokens":{"a":{"audience":"b"}}}`:                                "iam.tokens",
		`"iam":{"roles":[]}`:                                                     "iam.roles",
	} {
		var got struct {
			Code    int
			Message string
		}
		resp := call(t, h, "POST", "/v2/sandboxes", `{"templateID":"base",`+fields+`}`, &got)
		if resp.StatusCode != 400 || got.Code != 400 || !strings.Contains(got.Message, name) {
			t.Errorf("%s: %s %+v, want 400 with %s", fields, resp.Status, got, name)
		}
	}
	var none []any
	if call(t, h, "GET", "/sandboxes", "", &none); len(none) != 0 {
		t.Errorf("refused requests have made %v", none)
	}
}

func TestUnknownFieldsAreNamed(t *testing.T) {
	resp := call(t, newAPI(t), "POST", "/v2/sandboxes", `{"templateID":"base","secure":true,"col\"our\n":1}`, nil)
	want := []string{`299 cube-api "the field col?our? is unknown and has no effect"`, `299 cube-api "the field secure is unknown and has no effect"`}
	if diff := cmp.Diff(want, resp.Header.Values("Warning")); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestTheListHasPagesAndFilters has a clock of its own: sandboxes of the same
// millisecond are listed in the order of their ids, which are random.
func TestTheListHasPagesAndFilters(t *testing.T) { synctest.Test(t, testList) }

func testList(t *testing.T) {
	h := newAPI(t)
	var ids []string
	for _, metadata := range []string{`{"a":"1"}`, `{"a":"1","k e=":"v&%"}`, `{"a":"2"}`} {
		ids = append(ids, create(t, h, "/v2/sandboxes", `{"templateID":"base","metadata":`+metadata+`}`)["sandboxID"].(string))
		time.Sleep(time.Second)
	}
	second := time.Now().Add(-2 * time.Second).UTC().Format(time.RFC3339)
	list := func(query string) (found []string, resp *http.Response) {
		var got []struct{ SandboxID string }
		resp = call(t, h, "GET", "/v2/sandboxes?"+query, "", &got)
		for _, item := range got {
			found = append(found, item.SandboxID)
		}
		return found, resp
	}
	// As the SDK builds it: each key and value escaped, then a query string of
	// them, then that escaped as a value of the query.
	sdkFilter := func(key, value string) string {
		pairs := url.Values{url.QueryEscape(key): {url.QueryEscape(value)}}
		return "metadata=" + url.QueryEscape(pairs.Encode())
	}
	for query, want := range map[string][]string{
		"order=asc":                        ids,
		"order=asc&state=running":          ids,
		"order=asc&state=running,paused":   ids,
		"state=paused":                     nil,
		"order=asc&template=base":          ids,
		"template=other":                   nil,
		"order=asc&" + sdkFilter("a", "1"): ids[:2],
		sdkFilter("k e=", "v&%"):           ids[1:2],
		sdkFilter("a", "3"):                nil,
		"order=asc&startedAfter=" + second: ids[1:],
	} {
		if got, _ := list(query); !slices.Equal(got, want) {
			t.Errorf("%s lists %v, want %v", query, got, want)
		}
	}
	newest, resp := list("limit=2")
	if resp.Header.Get("X-Total-Running") != "3" || len(newest) != 2 || newest[0] != ids[2] {
		t.Errorf("the first page is %v, total %q", newest, resp.Header.Get("X-Total-Running"))
	}
	rest, resp := list("limit=2&nextToken=" + url.QueryEscape(resp.Header.Get("X-Next-Token")))
	if !slices.Equal(rest, ids[:1]) || resp.Header.Get("X-Next-Token") != "" {
		t.Errorf("the second page is %v, and then %q", rest, resp.Header.Get("X-Next-Token"))
	}
}

func TestKillIsFoundOnceAndTellsWhyAfterwards(t *testing.T) {
	h := newAPI(t)
	id := create(t, h, "/v2/sandboxes", `{"templateID":"base"}`)["sandboxID"].(string)
	if resp := call(t, h, "DELETE", "/sandboxes/"+id, "", nil); resp.StatusCode != 204 {
		t.Errorf("the first time: %s", resp.Status)
	}
	for _, request := range [][2]string{{"DELETE", ""}, {"GET", ""}, {"POST", "/connect"}, {"POST", "/timeout"}, {"POST", "/refreshes"}} {
		var got struct {
			Code  int
			Ended struct{ Reason string }
		}
		resp := call(t, h, request[0], "/sandboxes/"+id+request[1], `{"timeout":1}`, &got)
		if resp.StatusCode != 404 || got.Code != 404 || got.Ended.Reason != "killed" {
			t.Errorf("%s %s afterwards: %s %+v", request[0], request[1], resp.Status, got)
		}
	}
}

func FuzzMetadataFilter(f *testing.F) {
	f.Add("a%3D1", "v")
	f.Add("k e", "%2526")
	f.Fuzz(func(t *testing.T, key, value string) {
		// Whatever is escaped as the SDKs do comes back as it was.
		pairs := url.Values{url.QueryEscape(key): {url.QueryEscape(value)}}
		got, err := parseMetadata(pairs.Encode())
		if err != nil || got[key] != value || len(got) != 1 {
			t.Errorf("%q=%q came back as %q, %v", key, value, got, err)
		}
		_, _ = parseMetadata(key) // of any text: no panic
	})
}

func TestAnIDWithTheClientsIDBehindItIsTheSame(t *testing.T) {
	h := newAPI(t)
	var created gen.Sandbox
	call(t, h, "POST", "/sandboxes", `{"templateID":"base"}`, &created)
	for suffix, want := range map[string]int{"-" + created.ClientID: http.StatusOK, "-other": http.StatusNotFound, "-": http.StatusNotFound} {
		if resp := call(t, h, "GET", "/sandboxes/"+created.SandboxID+suffix, "", nil); resp.StatusCode != want {
			t.Errorf("%q: %s, want %d", suffix, resp.Status, want)
		}
	}
}

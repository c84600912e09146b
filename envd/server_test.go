package envd

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	fspb "cube/envd/gen/filesystem"
	pb "cube/envd/gen/process"
)

func TestBeforeInitTheAgentOnlyTellsThatItLives(t *testing.T) {
	a := listen(t)
	if got := a.get("/health"); got.status != http.StatusNoContent {
		t.Errorf("GET /health is answered with %d", got.status)
	}
	for _, path := range []string{"/envs", "/metrics", "/files?path=/etc/passwd", "/nothing"} {
		if got := a.get(path); got.status != http.StatusServiceUnavailable || got.message(t) != "not initialised" {
			t.Errorf("GET %s is answered with %d %q", path, got.status, got.body)
		}
	}
	_, err := a.processes.List(t.Context(), connect.NewRequest(&pb.ListRequest{}))
	if connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("an RPC ends with %v, want unavailable", err)
	}
}

func TestOnlyTheHostCanInitAgain(t *testing.T) {
	a := start(t, func(r *initRequest) { r.EnvVars = map[string]string{"A": "first"} })
	for _, key := range []string{"", "guess", "key of the hos"} {
		got := a.init(key, initRequest{HostKey: "mine", EnvVars: map[string]string{"A": "stolen"}})
		if got.status != http.StatusUnauthorized {
			t.Errorf("with the key %q init is answered with %d", key, got.status)
		}
	}
	if got := a.get("/envs"); !strings.Contains(got.body, "first") {
		t.Errorf("a refused init changed the settings: %s", got.body)
	}
	a.mustInit("key of the host", initRequest{HostKey: "next key", EnvVars: map[string]string{"A": "second"}})
	if got := a.get("/envs"); !strings.Contains(got.body, "second") {
		t.Errorf("the host's init changed nothing: %s", got.body)
	}
	if got := a.init("key of the host", initRequest{}); got.status != http.StatusUnauthorized {
		t.Errorf("the old key is answered with %d", got.status)
	}
	a.mustInit("next key", initRequest{})
	if got := a.init("", initRequest{}); got.status != http.StatusUnauthorized {
		t.Errorf("an agent that was left without a key takes settings from anybody: %d", got.status)
	}
}

func TestInitRefusesWhatItCannotRead(t *testing.T) {
	a := listen(t)
	for _, body := range []string{"", "no JSON", `{"envVars":"text"}`, `{"accessToken":"` + strings.Repeat("x", maxMessage) + `"}`} {
		if got := a.do(http.MethodPost, "/init", strings.NewReader(body), nil); got.status != http.StatusBadRequest {
			t.Errorf("a body of %d bytes is answered with %d", len(body), got.status)
		}
	}
	if got := a.get("/envs"); got.status != http.StatusServiceUnavailable {
		t.Errorf("a refused init initialised the agent: %d", got.status)
	}
}

func TestEnvsTellsTheGlobalVariables(t *testing.T) {
	a := start(t, func(r *initRequest) {
		r.SandboxID = "i0123456789abcdefghij"
		r.EnvVars = map[string]string{"COLOUR": "blue"}
	})
	want := `{"COLOUR":"blue","E2B_SANDBOX":"true","E2B_SANDBOX_ID":"i0123456789abcdefghij"}`
	if diff := cmp.Diff(want, strings.TrimSpace(a.get("/envs").body)); diff != "" {
		t.Error(diff)
	}
}

func TestATokenIsAskedForEverywhereButOnThePublicPaths(t *testing.T) {
	a := start(t, func(r *initRequest) { r.AccessToken = "the token" })
	rpcs := map[string]func() error{
		"an RPC": func() error {
			_, err := a.files.Stat(t.Context(), connect.NewRequest(&fspb.StatRequest{Path: "/"}))
			return err
		},
		"a stream": func() error {
			stream, err := a.processes.Start(t.Context(), connect.NewRequest(shell("true")))
			if err != nil {
				return err
			}
			defer stream.Close()
			for stream.Receive() {
			}
			return stream.Err()
		},
	}
	for token, right := range map[string]bool{"": false, "the toke": false, "the token": true} {
		a.token = token
		for _, path := range []string{"/envs", "/metrics"} {
			want := map[bool]int{true: http.StatusOK, false: http.StatusUnauthorized}[right]
			if got := a.get(path); got.status != want {
				t.Errorf("GET %s with the token %q is answered with %d, want %d", path, token, got.status, want)
			}
		}
		for name, call := range rpcs {
			if err := call(); (err == nil) != right || (err != nil && connect.CodeOf(err) != connect.CodeUnauthenticated) {
				t.Errorf("%s with the token %q ends with %v", name, token, err)
			}
		}
		if got := a.get("/health"); got.status != http.StatusNoContent {
			t.Errorf("GET /health with the token %q is answered with %d", token, got.status)
		}
	}
}

func TestPagesOfAnyOriginMayAsk(t *testing.T) {
	a := start(t, func(r *initRequest) { r.AccessToken = "the token" })
	preflight := a.do(http.MethodOptions, "/process.Process/Start", nil, http.Header{
		"Origin": {"https://example.com"}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"x-access-token"},
	})
	if preflight.status != http.StatusNoContent || preflight.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("a preflight is answered with %d %v", preflight.status, preflight.header)
	}
	if refused := a.get("/envs"); refused.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("a refusal hides its status from a page: %v", refused.header)
	}
}

func TestMetricsAreSane(t *testing.T) {
	a := start(t)
	if got := a.get("/metrics"); got.status != http.StatusOK || !strings.Contains(got.body, `"mem_total":`) || strings.Contains(got.body, `"mem_total":0,`) {
		t.Errorf("GET /metrics is answered with %d %s", got.status, got.body)
	}
}

func TestProcessorUseIsTheDifferenceOfTwoReadings(t *testing.T) {
	type reading struct {
		total, idle uint64
		want        float64
	}
	for name, readings := range map[string][]reading{
		"half used, then all, then none": {{200, 100, 50}, {300, 100, 100}, {400, 200, 0}},
		"a kernel that does not count":   {{0, 0, 0}, {0, 0, 0}},
		"asked twice at once":            {{200, 100, 50}, {200, 100, 0}},
		"counters that went back":        {{200, 100, 50}, {100, 50, 0}, {200, 50, 100}},
		"only idle went back":            {{200, 100, 50}, {300, 50, 0}},
	} {
		var m metrics
		for i, r := range readings {
			if got := m.cpuUsed(r.total, r.idle); got != r.want {
				t.Errorf("%s: reading %d gives %v%%, want %v%%", name, i, got, r.want)
			}
		}
	}
}

package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"cube"
	"cube/engine/fake"
)

// repeat creates with an idempotency key.
func repeat(h http.Handler, target, body string, keys ...string) (status int, answer string) {
	r := httptest.NewRequest("POST", target, strings.NewReader(body))
	r.Header["Idempotency-Key"] = keys
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestARepeatedCreateIsTheSameSandbox(t *testing.T) {
	h := newAPI(t)
	status, first := repeat(h, "/v2/sandboxes", `{"templateID":"base","timeout":60,"metadata":{"a":"1","b":"2"}}`, "key")
	if status != 201 {
		t.Fatalf("%d %s", status, first)
	}
	same := `{"metadata": {"b":"2", "a":"1"}, "timeout": 60, "templateID":"base", "autoPause":false}`
	if status, again := repeat(h, "/v2/sandboxes", same, "key"); status != 201 || again != first {
		t.Errorf("the same in other words: %d %s, want %s", status, again, first)
	}
	for name, request := range map[string][2]string{
		"another body":    {"/v2/sandboxes", `{"templateID":"base","timeout":61}`},
		"another version": {"/sandboxes", same},
	} {
		if status, answer := repeat(h, request[0], request[1], "key"); status != 409 {
			t.Errorf("%s: %d %s, want 409", name, status, answer)
		}
	}
	if status, other := repeat(h, "/v2/sandboxes", same, "another key"); status != 201 || other == first {
		t.Errorf("with another key: %d %s", status, other)
	}
}

func TestIdempotencyKeysAreChecked(t *testing.T) {
	h := newAPI(t)
	for name, keys := range map[string][]string{
		"empty": {""}, "too long": {strings.Repeat("k", 256)}, "a tab": {"a\tb"}, "not ASCII": {"clé"}, "two": {"a", "b"},
	} {
		if status, answer := repeat(h, "/v2/sandboxes", `{"templateID":"base"}`, keys...); status != 400 || !strings.Contains(answer, "Idempotency-Key") {
			t.Errorf("%s: %d %s, want 400", name, status, answer)
		}
	}
	if status, answer := repeat(h, "/v2/sandboxes", `{"templateID":"base"}`, strings.Repeat("~", 255)); status != 201 {
		t.Errorf("the longest: %d %s", status, answer)
	}
}

func TestCreateTellsHowLongItsStagesTook(t *testing.T) {
	resp := call(t, newAPI(t), "POST", "/sandboxes", `{"templateID":"base"}`, nil)
	const ms = `;dur=\d+\.\d`
	want := regexp.MustCompile(`^queue` + ms + `, root` + ms + `, network` + ms + `, boot` + ms + `, agent` + ms + `, total` + ms + `$`)
	if got := resp.Header.Get("Server-Timing"); !want.MatchString(got) {
		t.Errorf("Server-Timing: %s", got)
	}
}

func TestWhatIsAskedForReachesTheSandbox(t *testing.T) {
	engine := &fake.Engine{}
	h := newAPIOn(t, engine, slog.New(slog.DiscardHandler))
	created := create(t, h, "/v2/sandboxes", `{"templateID":"base","allow_internet_access":false,"ALLOW_INTERNET_ACCESS":true,"envVars":{"A":"b"},"metadata":{"user":"me"}}`)
	id := created["sandboxID"].(string)
	if request, _ := engine.Request(cube.SandboxID(id)); request.Internet {
		t.Error("the sandbox may reach the Internet")
	}
	settings, _ := engine.Settings(cube.SandboxID(id))
	if settings.EnvVars["A"] != "b" || settings.AccessToken != created["envdAccessToken"] {
		t.Errorf("the agent has %+v, the client %v", settings, created)
	}
	var detail struct {
		AllowInternetAccess *bool
		EnvdAccessToken     string
		Metadata            map[string]string
		State, Domain       string
		CPUCount            int
		Lifecycle           struct {
			AutoResume *bool
			OnTimeout  string
		}
	}
	call(t, h, "GET", "/sandboxes/"+id, "", &detail)
	if detail.AllowInternetAccess == nil || *detail.AllowInternetAccess || detail.EnvdAccessToken != created["envdAccessToken"] ||
		detail.Metadata["user"] != "me" || detail.State != "running" || detail.Domain != "cube.test" || detail.CPUCount != 2 ||
		detail.Lifecycle.AutoResume == nil || *detail.Lifecycle.AutoResume || detail.Lifecycle.OnTimeout != "kill" {
		t.Errorf("the detail is %+v", detail)
	}
}

func TestASandboxWithoutPublicTrafficComesWithItsToken(t *testing.T) {
	h := newAPI(t)
	for _, row := range []struct {
		path, network string
		private       bool
	}{
		{"/v2/sandboxes", `{"allowPublicTraffic":false}`, true},
		{"/sandboxes", `{"allowPublicTraffic":false,"allowOut":[]},"secure":true`, true},
		{"/v2/sandboxes", `{"allowPublicTraffic":true}`, false},
		{"/v2/sandboxes", `{"allowPublicTraffic":null}`, false},
		{"/v2/sandboxes", `null`, false},
		{"/v2/sandboxes", `{}`, false},
	} {
		created := create(t, h, row.path, `{"templateID":"base","network":`+row.network+`}`)
		if token, _ := created["trafficAccessToken"].(string); (token != "") != row.private || row.private && token == created["envdAccessToken"] {
			t.Errorf("%s: the tokens are %v and %v", row.network, created["trafficAccessToken"], created["envdAccessToken"])
		}
		var detail struct {
			Network struct{ AllowPublicTraffic *bool }
		}
		resp := call(t, h, "GET", "/sandboxes/"+created["sandboxID"].(string), "", &detail)
		if public := detail.Network.AllowPublicTraffic; resp.StatusCode != 200 || public == nil || *public == row.private {
			t.Errorf("%s: the detail is %+v", row.network, detail)
		}
	}
	var refused struct{ Message string }
	resp := call(t, h, "POST", "/sandboxes", `{"templateID":"base","network":{"allowPublicTraffic":false}}`, &refused)
	if resp.StatusCode != 400 || !strings.Contains(refused.Message, "secure") {
		t.Errorf("one that is not secure: %s %s, want 400", resp.Status, refused.Message)
	}
}

func TestAFaultOfOursIsLoggedOnceAndNotShown(t *testing.T) {
	engine := &fake.Engine{OnStart: func(context.Context, cube.StartRequest) error { return errors.New("the disk is on fire") }}
	var log bytes.Buffer
	h := newAPIOn(t, engine, slog.New(slog.NewTextHandler(&log, nil)))
	var got struct {
		Code    int
		Message string
	}
	resp := call(t, h, "POST", "/v2/sandboxes", `{"templateID":"base"}`, &got)
	if resp.StatusCode != 500 || got.Code != 500 || got.Message == "" || strings.Contains(got.Message, "fire") {
		t.Errorf("answered %s %+v", resp.Status, got)
	}
	call(t, h, "PUT", "/sandboxes", "", nil) // a fault of the client's
	if lines := strings.Count(log.String(), "level=ERROR"); lines != 1 || !strings.Contains(log.String(), "fire") {
		t.Errorf("%d errors are logged: %s", lines, log.String())
	}
}

func TestAClientThatSeemsGoneIsNotToldOfSuccess(t *testing.T) {
	h := newAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as net/http does when the client closes its half of the connection
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/v2/sandboxes", strings.NewReader(`{"templateID":"base"}`)))
	if w.Code != 503 {
		t.Errorf("answered %d %s, want 503", w.Code, w.Body)
	}
}

package api

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeadlines(t *testing.T) {
	for _, row := range []struct {
		name, target, body string
		want               int
		seconds            time.Duration // from the request to the end
	}{
		{"connect does not shorten", "/sandboxes/ID/connect", `{"timeout":10}`, 200, 300},
		{"connect extends", "/sandboxes/ID/connect", `{"timeout":400}`, 200, 400},
		{"connect of the second version does not shorten", "/v2/sandboxes/ID/connect", `{"timeout":0}`, 200, 300},
		{"connect of the second version extends", "/v2/sandboxes/ID/connect", `{"timeout":400}`, 200, 400},
		{"timeout shortens", "/sandboxes/ID/timeout", `{"timeout":10}`, 204, 10},
		{"timeout extends", "/sandboxes/ID/timeout", `{"timeout":86400}`, 204, 86400},
		{"a refresh does not shorten", "/sandboxes/ID/refreshes", `{"duration":10}`, 204, 300},
		{"a refresh extends", "/sandboxes/ID/refreshes", `{"duration":3600}`, 204, 3600},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newAPI(t)
				id := create(t, h, "/v2/sandboxes", `{"templateID":"base","timeout":300}`)["sandboxID"].(string)
				if resp := call(t, h, "POST", strings.Replace(row.target, "ID", id, 1), row.body, nil); resp.StatusCode != row.want {
					t.Errorf("answered %s, want %d", resp.Status, row.want)
				}
				wantLeft(t, h, id, row.seconds*time.Second)
			})
		})
	}
}

func TestDeadlinesThatNobodyNames(t *testing.T) {
	for target, left := range map[string]time.Duration{
		"/v2/sandboxes/ID/connect": 300 * time.Second,
		"/sandboxes/ID/refreshes":  15 * time.Second,
	} {
		for _, body := range []string{``, `{}`} {
			synctest.Test(t, func(t *testing.T) {
				h := newAPI(t)
				id := create(t, h, "/v2/sandboxes", `{"templateID":"base","timeout":5}`)["sandboxID"].(string)
				call(t, h, "POST", strings.Replace(target, "ID", id, 1), body, nil)
				wantLeft(t, h, id, left)
			})
		}
	}
}

func TestATimeoutOfNothingEndsTheSandbox(t *testing.T) {
	for _, body := range []string{`{"timeout":0}`, `{"timeout":-5}`, `{"timeout":-9223372036854775808}`} {
		h := newAPI(t)
		id := create(t, h, "/v2/sandboxes", `{"templateID":"base"}`)["sandboxID"].(string)
		if resp := call(t, h, "POST", "/sandboxes/"+id+"/timeout", body, nil); resp.StatusCode != 204 {
			t.Errorf("%s: %s", body, resp.Status)
		}
		var got struct{ Ended struct{ Reason string } }
		if resp := call(t, h, "GET", "/sandboxes/"+id, "", &got); resp.StatusCode != 404 || got.Ended.Reason != "deadline" {
			t.Errorf("%s: afterwards %s %+v", body, resp.Status, got)
		}
	}
}

func wantLeft(t *testing.T, h http.Handler, id string, want time.Duration) {
	t.Helper()
	var detail struct{ EndAt time.Time }
	call(t, h, "GET", "/sandboxes/"+id, "", &detail)
	if got := time.Until(detail.EndAt); got != want {
		t.Errorf("the sandbox has %s left, want %s", got, want)
	}
}

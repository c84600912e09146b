package gateway

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"cube"
	"cube/engine/fake"
	"cube/lifecycle"
)

// TestASignedLinkWakesItsSandbox asks for files of a secured sandbox that is
// paused: a link is as good as the token that has signed it, and no better.
func TestASignedLinkWakesItsSandbox(t *testing.T) {
	soon, past := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10), strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
	for name, row := range map[string]struct {
		method string
		link   func(token string) string
		want   int
	}{
		"reading":                {"GET", func(token string) string { return link("/a", "read", "user", token, "") }, 200},
		"writing":                {"POST", func(token string) string { return link("/a", "write", "user", token, "") }, 200},
		"with an end to come":    {"GET", func(token string) string { return link("/a", "read", "user", token, soon) }, 200},
		"with an end that was":   {"GET", func(token string) string { return link("/a", "read", "user", token, past) }, 403},
		"with an end of letters": {"GET", func(token string) string { return link("/a", "read", "user", token, "soon") }, 403},
		"for another operation":  {"POST", func(token string) string { return link("/a", "read", "user", token, "") }, 403},
		"by another token":       {"GET", func(string) string { return link("/a", "read", "user", "other", "") }, 403},
		"by no token":            {"GET", func(string) string { return link("/a", "read", "user", "", "") }, 403},
		"on another path":        {"GET", func(token string) string { return "/x" + link("/a", "read", "user", token, "") }, 403},
		"without a signature":    {"GET", func(string) string { return "/files?path=/a" }, 403},
	} {
		t.Run(name, func(t *testing.T) {
			engine := &fake.Engine{Servers: map[uint16]http.Handler{cube.AgentPort: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/init" {
					w.WriteHeader(http.StatusNoContent)
				}
			})}}
			w := newWorldOn(t, engine, engine)
			sandbox := w.paused(t, lifecycle.CreateRequest{Secure: true})
			req, err := http.NewRequestWithContext(t.Context(), row.method, w.URL+row.link(sandbox.AccessToken), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "49983-" + string(sandbox.ID) + ".cube.test"
			resp, err := w.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != row.want {
				t.Errorf("%s, want %d", resp.Status, row.want)
			}
			after, err := w.sandboxes.Get(t.Context(), sandbox.ID)
			if err != nil {
				t.Fatal(err)
			}
			if woken := after.State == cube.Running; woken != (row.want == 200) {
				t.Errorf("it is %s", after.State)
			}
		})
	}
}

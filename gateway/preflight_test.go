package gateway

import (
	"net/http"
	"testing"
	"time"

	"cube"
	"cube/lifecycle"
)

// TestAPreflightNeedsNoTokenAndWakesNothing asks what a browser asks before a page
// may send a token to a sandbox that is paused.
func TestAPreflightNeedsNoTokenAndWakesNothing(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) {})
	locked := w.paused(t, lifecycle.CreateRequest{Secure: true, Private: true})
	asleep, err := w.sandboxes.Create(t.Context(), lifecycle.CreateRequest{Template: "base", Timeout: time.Minute, Secure: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.sandboxes.Pause(t.Context(), asleep.Sandbox.ID, true); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, method, port, origin string
		sandbox                    cube.SandboxID
		want                       int
	}{
		{"to the agent", "OPTIONS", "49983", "https://a.example", locked.ID, 204},
		{"without an origin", "OPTIONS", "49983", "", locked.ID, 403},
		{"by another method", "GET", "49983", "https://a.example", locked.ID, 403},
		{"to a server that has its token", "OPTIONS", "8000", "https://a.example", locked.ID, 403},
		{"to one that traffic does not wake", "OPTIONS", "49983", "https://a.example", asleep.Sandbox.ID, 502},
	} {
		req, err := http.NewRequestWithContext(t.Context(), row.method, w.URL+"/files?path=/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = row.port + "-" + string(row.sandbox) + ".cube.test"
		if row.origin != "" {
			req.Header.Set("Origin", row.origin)
		}
		req.Header.Set("Access-Control-Request-Method", "GET")
		req.Header.Set("Access-Control-Request-Headers", "x-access-token")
		resp, err := w.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		h := resp.Header
		if resp.StatusCode != row.want || h.Get("Access-Control-Allow-Origin") != "*" || len(h.Values("X-Request-Id")) != 1 {
			t.Errorf("%s: %s %v, want %d", row.name, resp.Status, h, row.want)
		}
		if row.want == 204 && (h.Get("Access-Control-Allow-Methods") != "*" || h.Get("Access-Control-Allow-Headers") != "*, Authorization") {
			t.Errorf("%s: a page may not ask: %v", row.name, h)
		}
		if after, err := w.sandboxes.Get(t.Context(), row.sandbox); err != nil || after.State != cube.Paused {
			t.Errorf("%s: it is %s (%v), and was paused", row.name, after.State, err)
		}
	}
}

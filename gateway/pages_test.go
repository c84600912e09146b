package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"cube"
	"cube/lifecycle"
)

// paused makes a paused sandbox that traffic wakes.
func (w *world) paused(t *testing.T, req lifecycle.CreateRequest) cube.Sandbox {
	t.Helper()
	req.Template, req.Timeout = "base", time.Minute
	req.Expiry = cube.Expiry{Pause: true, Memory: true, Resume: true}
	created, err := w.sandboxes.Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.sandboxes.Pause(t.Context(), created.Sandbox.ID, true); err != nil {
		t.Fatal(err)
	}
	return created.Sandbox
}

var pageTitle = regexp.MustCompile(`<title>[^<]+</title>`)

// TestAPersonIsToldWhyASandboxDoesNotWake looks at the pages that stand in the
// place of a paused sandbox's own.
func TestAPersonIsToldWhyASandboxDoesNotWake(t *testing.T) {
	for name, row := range map[string]struct {
		why     error
		private bool
		status  int
		want    []string
	}{
		"no room":  {cube.Errorf(cube.Exhausted, "there is no room on the disk"), false, 429, []string{"no room on the disk", "Load this page again"}},
		"busy":     {cube.Errorf(cube.Unavailable, "the machine is busy"), false, 409, []string{"changing its state", "Load this page again"}},
		"broken":   {errors.New("secret of the machine"), false, 502, []string{"could not be resumed", "Nothing of the sandbox"}},
		"no token": {nil, true, 403, []string{"token"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(http.ResponseWriter, *http.Request) {})
			sandbox := w.paused(t, lifecycle.CreateRequest{Secure: row.private, Private: row.private})
			w.engine.OnStart = func(context.Context, cube.StartRequest) error { return row.why }
			resp := w.get(t, sandbox.ID, "/", "User-Agent", "Mozilla/5.0", "Accept", "text/html")
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			page := string(body)
			if resp.StatusCode != row.status || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
				t.Errorf("%s, %s; want a page with %d", resp.Status, resp.Header.Get("Content-Type"), row.status)
			}
			if !pageTitle.MatchString(page) {
				t.Errorf("the page has no title:\n%s", page)
			}
			for _, want := range row.want {
				if !strings.Contains(page, want) {
					t.Errorf("the page does not say %q:\n%s", want, page)
				}
			}
			if strings.Contains(page, "never was") || strings.Contains(page, "secret") {
				t.Errorf("the page says what it must not:\n%s", page)
			}
		})
	}
}

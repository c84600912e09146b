package api

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestHealthServesBothOfItsReaders(t *testing.T) {
	h := newAPI(t)
	resp := call(t, h, "GET", "/health", "", nil)
	body, err := io.ReadAll(resp.Body)
	if want := `{"message":"Health check successful","status":"ok"}` + "\n"; err != nil || resp.StatusCode != 200 || string(body) != want {
		t.Errorf("answered %s %s, %v; want %s", resp.Status, body, err, want)
	}
	if resp := call(t, h, "HEAD", "/health", "", nil); resp.StatusCode != 200 {
		t.Errorf("HEAD is answered %s", resp.Status)
	}
}

func TestWhatIsNotBuiltIsNamed(t *testing.T) {
	h := newAPI(t)
	for pattern, feature := range unsupportedRoutes {
		method, path, found := strings.Cut(pattern, " ")
		if !found {
			method, path = "PATCH", pattern
		}
		path = strings.NewReplacer("{sandboxID}", "i00000000000000000000", "{rest...}", "a/b").Replace(path)
		targets := []string{path}
		if root, found := strings.CutSuffix(path, "/a/b"); found {
			targets = append(targets, root) // which the mux would answer itself, with a page
		}
		for _, target := range targets {
			var got struct {
				Code    int
				Message string
			}
			resp := call(t, h, method, target, "", &got)
			if resp.StatusCode != 501 || got.Code != 501 || !strings.HasPrefix(got.Message, feature+" ") {
				t.Errorf("%s %s: %s %+v, want 501 that names %s", method, target, resp.Status, got, feature)
			}
		}
	}
}

func TestPathsAndMethodsThatAreNotThere(t *testing.T) {
	h := newAPI(t)
	for _, row := range []struct {
		method, target string
		want           int
		allow          string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/sandboxes/", 404, ""},
		{"GET", "/v1/sandboxes", 404, ""},
		{"POST", "/sandboxes/i00000000000000000000/nothing", 404, ""},
		{"PUT", "/sandboxes", 405, "GET, POST"},
		{"POST", "/health", 405, "GET"},
		{"PATCH", "/sandboxes/i00000000000000000000", 405, "GET, DELETE"},
		{"GET", "/sandboxes/i00000000000000000000/pause", 405, "POST"},
	} {
		var got struct {
			Code    int
			Message string
		}
		resp := call(t, h, row.method, row.target, "", &got)
		if resp.StatusCode != row.want || got.Code != row.want || got.Message == "" || resp.Header.Get("Allow") != row.allow {
			t.Errorf("%s %s: %s %+v Allow %q, want %d Allow %q", row.method, row.target, resp.Status, got, resp.Header.Get("Allow"), row.want, row.allow)
		}
	}
}

func TestTheDocumentIsServed(t *testing.T) {
	resp := call(t, newAPI(t), "GET", "/openapi.yaml", "", nil)
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, document) {
		t.Errorf("answered %s with %d bytes, %v", resp.Status, len(got), err)
	}
}

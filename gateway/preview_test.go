package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cube/lifecycle"
)

// preview asks for a path on the API's host, and follows nothing.
func (w *world) preview(t *testing.T, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "api.cube.test"
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if !w.gateway.Takes(req) {
		t.Errorf("%s is taken for the API's", path)
	}
	resp, err := w.Client().Transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp, string(body)
}

func TestAPreviewNeedsNoNameOfItsOwn(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s", r.RequestURI, r.Header.Get("X-Forwarded-Prefix"))
	})
	id := string(w.create(t))
	base := "/preview/" + id + "/8000"
	for path, want := range map[string]string{
		"/":             "/",
		"/a/b?c=d&e":    "/a/b?c=d&e",
		"/a%2Fb/%20":    "/a%2Fb/%20",
		"//other/x":     "//other/x",
		"/preview/x/1/": "/preview/x/1/",
	} {
		if resp, got := w.preview(t, base+path, "X-Forwarded-Prefix", "/mine"); resp.StatusCode != 200 || got != want+" "+base {
			t.Errorf("%s: %s %s, want %s", path, resp.Status, got, want)
		}
	}
	for path, want := range map[string]int{
		base + "?q":                         308,
		"/preview/" + id + "/49983/init":    400,
		"/preview/" + id + "/49983/files":   400,
		"/preview/" + id + "/x/":            400,
		"/preview/" + id + "/0/":            400,
		"/preview/":                         400,
		"/preview/i00000000000000000000/1/": 502,
		"/preview/" + id + "/9/":            502,
	} {
		if resp, body := w.preview(t, path); resp.StatusCode != want {
			t.Errorf("%s: %s %s, want %d", path, resp.Status, body, want)
		} else if want == 308 && resp.Header.Get("Location") != base+"/?q" {
			t.Errorf("%s leads to %q", path, resp.Header.Get("Location"))
		}
	}
}

func TestAPreviewCannotActAsTheAPIsOwnPage(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src *")
		h.Set("Service-Worker-Allowed", "/")
		h.Set("Clear-Site-Data", `"*"`)
		h.Set("NEL", `{"report_to":"x","max_age":86400,"success_fraction":1}`)
		h.Set("Report-To", `{"group":"x","max_age":86400,"endpoints":[{"url":"https://evil.example/"}]}`)
		h.Add("Set-Cookie", "a=1; Domain=cube.test; HttpOnly")
		h.Add("Set-Cookie", "b=2; Path=/app/../..")
		h.Add("Set-Cookie", "__Host-c=3; Path=/; Secure")
		h.Add("Set-Cookie", "nonsense")
		h.Add("Set-Cookie", "d=4; Path="+r.Header.Get("X-Forwarded-Prefix")+"/app")
	})
	id := string(w.create(t))
	base := "/preview/" + id + "/8000"
	resp, _ := w.preview(t, base+"/")
	if got := resp.Header.Values("Content-Security-Policy"); len(got) != 2 || got[1] != previewPolicy || strings.Contains(previewPolicy, "same-origin") {
		t.Errorf("the policy is %q", got)
	}
	for _, name := range ofOrigins {
		if resp.Header.Get(name) != "" {
			t.Errorf("the sandbox speaks for the origin: %s: %s", name, resp.Header.Get(name))
		}
	}
	if got, want := fmt.Sprint(resp.Header.Values("Set-Cookie")), "[a=1; Path="+base+"; HttpOnly b=2; Path="+base+" d=4; Path="+base+"/app]"; got != want {
		t.Errorf("cookies %s, want %s", got, want)
	}
}

func TestAPreviewOfASandboxWithoutPublicTrafficWantsItsToken(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) {})
	created, err := w.sandboxes.Create(t.Context(), lifecycle.CreateRequest{Template: "base", Timeout: time.Minute, Secure: true, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	path := "/preview/" + string(created.Sandbox.ID) + "/8000/"
	if resp, _ := w.preview(t, path); resp.StatusCode != 403 {
		t.Errorf("without: %s", resp.Status)
	}
	if resp, _ := w.preview(t, path, trafficHeader, created.Sandbox.TrafficToken); resp.StatusCode != 200 {
		t.Errorf("with: %s", resp.Status)
	}
}

func TestRedirectsStayInThePreview(t *testing.T) {
	for location, want := range map[string]string{
		"/login?a=b#c":             "/p/login?a=b#c",
		"https://api.cube.test/x":  "/p/x",
		"http://api.cube.test":     "/p/",
		"//api.cube.test/x":        "/p/x",
		"next":                     "next",
		"?q":                       "?q",
		"https://e2b.dev/x":        "https://e2b.dev/x",
		"//evil.example/x":         "//evil.example/x",
		"mailto:somebody@e2b.dev":  "mailto:somebody@e2b.dev",
		"https://api.cube.test:1/": "https://api.cube.test:1/",
		// Of a server that knows its prefix.
		"/p/login":                    "/p/login",
		"https://api.cube.test/p/x?q": "/p/x?q",
		"/p":                          "/p",
		"/pages":                      "/p/pages",
	} {
		if got := below("/p", "api.cube.test", location); got != want {
			t.Errorf("%s leads to %s, want %s", location, got, want)
		}
	}
}

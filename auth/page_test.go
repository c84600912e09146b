package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestThePage goes through the authentication page, sentence by sentence.
func TestThePage(t *testing.T) {
	t.Run("when the URL is not set, all requests are allowed without any credential check", func(t *testing.T) {
		h := newHouse(t, Config{})
		wantStatus(t, h.send(t, "GET /sandboxes"), 200)
		wantStatus(t, h.send(t, "GET /sandboxes", "Authorization: Bearer a", "Authorization: Bearer b"), 200)
	})
	t.Run("the credential is extracted, Bearer takes priority over X-API-Key", func(t *testing.T) {
		o := newOperator(t, status(200))
		h := newHouse(t, asking(o.URL))
		wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key", "Authorization: Bearer token"), 200)
		q := o.questions()[0].Header
		if q.Get("Authorization") != "Bearer token" || len(q.Values("X-Api-Key")) != 0 {
			t.Errorf("the callback got %v", q)
		}
	})
	t.Run("X-API-Key can be sent directly, and the two headers are mutually exclusive", func(t *testing.T) {
		o := newOperator(t, status(200))
		h := newHouse(t, asking(o.URL))
		wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
		q := o.questions()[0].Header
		if q.Get("X-Api-Key") != "key" || len(q.Values("Authorization")) != 0 {
			t.Errorf("the callback got %v", q)
		}
	})
	t.Run("a POST is forwarded with the credential, the original path and the method", func(t *testing.T) {
		o := newOperator(t, status(200))
		h := newHouse(t, asking(o.URL+"/verify?tenant=1"))
		resp := h.send(t, "DELETE /templates/my-tmpl?x=1", "Authorization: Bearer token", "Cookie: a=b", "X-Other: y")
		wantStatus(t, resp, 200)
		q := o.questions()[0]
		if q.Method != "POST" || q.RequestURI != "/verify?tenant=1" || q.ContentLength != 0 {
			t.Errorf("asked %s %s with %d bytes", q.Method, q.RequestURI, q.ContentLength)
		}
		want := http.Header{
			"Authorization":    {"Bearer token"},
			"X-Request-Path":   {"/templates/my-tmpl"},
			"X-Request-Method": {"DELETE"},
			"X-Request-Id":     {resp.Header.Get("X-Request-Id")},
			"User-Agent":       {"cube-api"},
			"Content-Length":   {"0"},
		}
		if diff := cmp.Diff(want, q.Header); diff != "" {
			t.Errorf("the callback's headers (-want +got):\n%s", diff)
		}
	})
	t.Run("HTTP 200 is allowed through, any other status is 401", func(t *testing.T) {
		for _, code := range []int{200, 201, 202, 204, 206, 301, 302, 307, 400, 401, 403, 404, 429, 500, 502, 503} {
			h := newHouse(t, asking(newOperator(t, status(code)).URL))
			want := http.StatusUnauthorized
			if code == 200 {
				want = http.StatusOK
			}
			wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), want)
		}
	})
	t.Run("no credential provided: 401, and nobody is asked", func(t *testing.T) {
		o := newOperator(t, status(200))
		h := newHouse(t, asking(o.URL))
		for _, headers := range [][]string{nil, {"Authorization: Bearer"}, {"Authorization: Bearer  "}, {"Authorization: Basic dXNlcjo="}, {"X-API-Key:"}} {
			resp := h.send(t, "GET /sandboxes", headers...)
			wantStatus(t, resp, 401)
			if resp.Header.Get("WWW-Authenticate") != `Bearer realm="cube"` || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v", resp.Header)
			}
			var body struct {
				Code    int
				Message string
			}
			if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || body.Code != 401 || body.Message == "" {
				t.Errorf("body %+v, %v", body, err)
			}
		}
		wantStatus(t, h.send(t, "GET /no/such/route"), 401)
		if n := len(o.questions()); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("callback unreachable: 500, that tells neither where nor why", func(t *testing.T) {
		o := newOperator(t, status(200))
		o.Close()
		h := newHouse(t, asking(o.URL+"/secret-path?secret-query"))
		resp := h.send(t, "GET /sandboxes", "X-API-Key: secret-key")
		wantStatus(t, resp, 500)
		body, _ := io.ReadAll(resp.Body)
		if strings.Contains(string(body), "127.0.0.1") || strings.Contains(string(body), "refused") {
			t.Errorf("the body tells %s", body)
		}
		log := h.log.String()
		if strings.Count(log, "\n") != 1 || !strings.Contains(log, "connection refused") || !strings.Contains(log, resp.Header.Get("X-Request-Id")) {
			t.Errorf("want one line with the reason and the request's id, the log holds %s", log)
		}
		if strings.Contains(log, "secret") {
			t.Errorf("the log tells a secret: %s", log)
		}
	})
	t.Run("every incoming request is validated, once", func(t *testing.T) {
		o := newOperator(t, status(200))
		h := newHouse(t, asking(o.URL))
		for range 3 {
			wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
		}
		if n := len(o.questions()); n != 3 {
			t.Errorf("asked %d times for 3 requests", n)
		}
	})
	t.Run("GET and HEAD of /health are free, unless nothing is to be", func(t *testing.T) {
		o := newOperator(t, status(401))
		h := newHouse(t, asking(o.URL))
		wantStatus(t, h.send(t, "GET /health"), 200)
		wantStatus(t, h.send(t, "HEAD /health"), 200)
		closed := newHouse(t, asking(o.URL, func(c *Config) { c.Exempt = ExemptNone }))
		wantStatus(t, closed.send(t, "GET /health"), 401)
	})
}

// TestThePagesRules is the page's example callback, in Go; the Python one runs below.
func TestThePagesRules(t *testing.T) {
	o := newOperator(t, func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if key == "" {
			key = r.Header.Get("X-API-Key")
		}
		method := r.Header.Get("X-Request-Method")
		switch {
		case key == "secret-key-1" || key == "secret-key-2":
		case key == "readonly-key-1" && (method == "GET" || method == "HEAD"):
		case key == "readonly-key-1":
			w.WriteHeader(403)
		default:
			w.WriteHeader(401)
		}
	})
	checkPageRules(t, newHouse(t, asking(o.URL+"/verify")))
}

// checkPageRules checks what the page's example promises.
func checkPageRules(t *testing.T, h *house) {
	for _, row := range []struct {
		line, header string
		want         int
	}{
		{"GET /templates/t", "Authorization: Bearer secret-key-1", 200},
		{"DELETE /templates/t", "Authorization: Bearer secret-key-2", 200},
		{"POST /sandboxes", "X-API-Key: secret-key-1", 200},
		{"GET /templates/t", "X-API-Key: readonly-key-1", 200},
		{"POST /templates/t", "X-API-Key: readonly-key-1", 401},
		{"PATCH /templates/t", "Authorization: Bearer readonly-key-1", 401},
		{"DELETE /templates/t", "Authorization: Bearer readonly-key-1", 401},
		{"GET /templates/t", "X-API-Key: another", 401},
		{"GET /templates/t", "X-Nothing: there", 401},
	} {
		if resp := h.send(t, row.line, row.header); resp.StatusCode != row.want {
			t.Errorf("%s with %q: %s, want %d", row.line, row.header, resp.Status, row.want)
		}
	}
}

// TestThePagesPythonCallback runs the page's example as it stands there, with
// FastAPI from PyPI in a virtual environment that is kept for the next run.
func TestThePagesPythonCallback(t *testing.T) {
	python := fastAPI(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	u := "http://" + listener.Addr().String() + "/verify"
	listener.Close() // the file is the service's now

	cmd := exec.CommandContext(t.Context(), python, "-m", "uvicorn", "page_callback:app", "--fd", "3", "--log-level", "warning")
	cmd.Dir = "testdata"
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// Connections wait in the socket until the service accepts them.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("the service does not start: %v", err)
	}
	resp.Body.Close()
	checkPageRules(t, newHouse(t, asking(u)))
}

// fastAPI returns a Python that has FastAPI.
func fastAPI(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "cube-tests", "page-callback")
	python := filepath.Join(dir, "bin", "python")
	if exec.Command(python, "-c", "import fastapi, uvicorn").Run() == nil {
		return python
	}
	for _, args := range [][]string{
		{"python3", "-m", "venv", "--clear", dir},
		{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "fastapi", "uvicorn"},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatal(fmt.Errorf("%v: %w\n%s", args, err, out))
		}
	}
	return python
}

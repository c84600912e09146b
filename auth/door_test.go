package auth

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestCORSStandsOnErrorsToo(t *testing.T) {
	h := newHouse(t, asking(newOperator(t, status(401)).URL))
	for line, want := range map[string]int{
		"GET /health": 200, "GET /sandboxes": 401, "OPTIONS /sandboxes": 401, "TRACE /sandboxes": 405,
	} {
		resp := h.send(t, line)
		wantStatus(t, resp, want)
		if resp.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), "X-Next-Token") {
			t.Errorf("%s: a page cannot read %v", line, resp.Header)
		}
	}
}

func TestAPreflightNeedsNoCredential(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, asking(o.URL))
	origin, method := "Origin: http://page", "Access-Control-Request-Method: POST"
	resp := h.send(t, "OPTIONS /sandboxes", origin, method, "Access-Control-Request-Headers: x-api-key")
	wantStatus(t, resp, 204)
	if got := resp.Header.Get("Access-Control-Allow-Headers"); got != "x-api-key" {
		t.Errorf("the page may send %q", got)
	}
	if got := resp.Header.Get("Access-Control-Allow-Methods"); !strings.Contains(got, "DELETE") {
		t.Errorf("the page may use %q", got)
	}
	wantStatus(t, h.send(t, "OPTIONS /sandboxes", origin), 401)
	wantStatus(t, h.send(t, "OPTIONS /sandboxes", method), 401)
	if n := len(o.questions()); n != 0 {
		t.Errorf("the callback was asked %d times", n)
	}
	wantStatus(t, h.send(t, "OPTIONS /sandboxes", origin, "X-API-Key: key"), 200)
}

func TestTheDecisionComesBeforeTheBody(t *testing.T) {
	h := newHouse(t, asking(newOperator(t, status(401)).URL))
	for name, headers := range map[string][]string{
		"1 GiB, asking first":    {"Content-Length: 1073741824", "Expect: 100-continue"},
		"1 GiB, not yet sent":    {"Content-Length: 1073741824"},
		"100 bytes, sent slowly": {"Content-Length: 100"},
		"chunks, sent slowly":    {"Transfer-Encoding: chunked"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			resp := h.send(t, "POST /sandboxes", append(headers, "X-API-Key: key")...)
			wantStatus(t, resp, 401) // and not 100
			// What is left of the body is waited for after the answer alone.
			if took := time.Since(start); took > refusedBodyTimeout/2 {
				t.Errorf("the answer took %v", took)
			}
		})
	}
}

func TestARefusalIsReadWholeByAClientThatSendsFirst(t *testing.T) {
	h := newHouse(t, asking(newOperator(t, status(401)).URL))
	for _, size := range []int{2, 200 << 10} {
		conn, err := net.Dial("tcp", h.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /sandboxes HTTP/1.1\r\nHost: cube\r\nX-API-Key: key\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 401 ") || !strings.HasSuffix(string(answer), "}\n") {
			t.Errorf("after %d bytes: %q, %v", size, answer, err)
		}
	}
}

func TestTheDoorIsTheSameOverHTTP2(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, asking(o.URL))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	for _, row := range []struct {
		path, key string
		want      int
	}{
		{"/health", "", 200},
		{"/sandboxes", "", 401},
		{"/sandboxes", "key", 200},
		{"/sandboxes//x", "key", 400},
		{"/%73andboxes", "key", 400},
		{"/templates/team%2Fname", "key", 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.URL+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Request-Path", "/health")
		if row.key != "" {
			req.Header.Set("X-API-Key", row.key)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.ProtoMajor != 2 {
			t.Fatalf("%s was spoken", resp.Proto)
		}
		wantStatus(t, resp, row.want)
		resp.Body.Close()
		if row.want != 200 || row.key == "" {
			continue
		}
		if got := o.last(t).Values("X-Request-Path"); len(got) != 1 || got[0] != row.path {
			t.Errorf("the callback judged %q, want %q", got, row.path)
		}
	}
}

func TestTrafficIntoSandboxesIsStrippedAndAsksNobody(t *testing.T) {
	o := newOperator(t, status(401))
	door, err := New(asking(o.URL))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	var got http.Header
	strip := door.Strip(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	for method, want := range map[string]int{"GET": 200, "OPTIONS": 200, "TRACE": 405, "CONNECT": 405} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, "http://49983-x.cube/files//a", nil)
		r.Header.Set("X-Auth-Team", "root")
		r.Header.Set("Authorization", "Basic dXNlcjo=")
		r.Header.Set("Connection", "keep-alive, X-User-Id")
		got = nil
		strip.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", method, w.Code, want)
		}
		if want != 200 {
			if got != nil || w.Header().Get("Allow") == "" {
				t.Errorf("%s came through, or the answer names no method: %v", method, w.Header())
			}
			continue
		}
		if got.Get("X-Auth-Team") != "" || got.Get("Connection") != "keep-alive" || got.Get("Authorization") == "" {
			t.Errorf("%s: the sandbox got %v", method, got)
		}
	}
	if n := len(o.questions()); n != 0 {
		t.Errorf("the callback was asked %d times", n)
	}
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	for _, row := range []struct {
		config Config
		says   string
	}{
		{asking("auth.example/s3cret"), "--auth-callback-url: write the URL of your service"},
		{asking("ftp://auth.example/s3cret"), "--auth-callback-url: write the URL"},
		{asking("http://"), "--auth-callback-url: write the URL"},
		{asking("http://:80/s3cret"), "--auth-callback-url: write the URL"},
		{asking("http://a s3cret"), "--auth-callback-url: write the URL"},
		{asking("https://x/#s3cret"), "--auth-callback-url: write the URL"},
		{asking("https://x:70000/s3cret"), "--auth-callback-url: write a port"},
		{asking("https://x:0/s3cret"), "--auth-callback-url: write a port"},
		{asking("https://user:s3cret@x/"), "--auth-callback-url: write the URL without a user"},
		{Config{Rules: Rules{Exempt: "healthz"}}, `--auth-exempt: write "health" or "none"`},
	} {
		_, err := New(row.config)
		if err == nil || !strings.HasPrefix(err.Error(), row.says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v, want %q", row.config.Callback.URLs, err, row.says)
		}
	}
}

func TestACertificateThatIsNotTrustedIs500(t *testing.T) {
	service := httptest.NewUnstartedServer(status(200))
	service.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	service.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	service.StartTLS()
	defer service.Close()
	h := newHouse(t, asking(service.URL))
	resp := h.send(t, "GET /sandboxes", "X-API-Key: key")
	wantStatus(t, resp, 500)
	if body, _ := io.ReadAll(resp.Body); strings.Contains(string(body), "certificate") {
		t.Errorf("the body tells %s", body)
	}
	if !strings.Contains(h.log.String(), "certificate") {
		t.Errorf("the log does not tell the reason: %s", h.log)
	}
}

func ExampleDoor_Wrap() {
	door, err := New(Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer door.Close()
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "served") })
	server := httptest.NewUnstartedServer(door.Wrap(api))
	ConfigureServer(server.Config)
	server.Start()
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/sandboxes")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(string(body))
	// Output: served
}

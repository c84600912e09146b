package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cube"
	"cube/auth"
	"cube/engine/fake"
	"cube/internal/requestid"
	"cube/lifecycle"
	"cube/store/sqlite"
)

// world is a gateway before sandboxes in memory.
type world struct {
	*httptest.Server
	gateway   *Gateway
	engine    *fake.Engine
	sandboxes *lifecycle.Sandboxes
}

// newWorld makes one in whose sandboxes a server listens on port 8000.
func newWorld(t *testing.T, inside http.HandlerFunc) *world {
	t.Helper()
	engine := &fake.Engine{Servers: map[uint16]http.Handler{8000: inside}}
	return newWorldOn(t, engine, engine)
}

// newWorldOn makes one whose engine is that in memory, behind another if need be.
func newWorldOn(t *testing.T, memory *fake.Engine, engine cube.Engine) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "cube.db"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	w := &world{engine: memory}
	w.sandboxes = lifecycle.New(lifecycle.Config{
		Store: store, Engine: engine, Log: log,
		Templates: []cube.Template{{ID: "base", Snapshot: cube.BaseSnapshot, Resources: cube.Resources{CPUs: 1, MemoryMB: 64, DiskMB: 1, Pids: 1}}},
	})
	if err := w.sandboxes.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.gateway = New(Config{Sandboxes: w.sandboxes, Domain: "cube.test:8443", Log: log})
	w.Server = httptest.NewUnstartedServer(requestid.Middleware(w.gateway))
	auth.ConfigureServer(w.Config) // as the real one
	w.Config.Protocols = new(http.Protocols)
	w.Config.Protocols.SetHTTP1(true)
	w.Config.Protocols.SetUnencryptedHTTP2(true)
	w.Start()
	t.Cleanup(func() {
		w.Close()
		w.sandboxes.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) create(t *testing.T) cube.SandboxID {
	t.Helper()
	created, err := w.sandboxes.Create(t.Context(), lifecycle.CreateRequest{Template: "base", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return created.Sandbox.ID
}

// get asks for a path on port 8000 of a sandbox.
func (w *world) get(t *testing.T, id cube.SandboxID, path string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "8000-" + string(id) + ".cube.test"
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestWhichRequestsAreForASandbox(t *testing.T) {
	const id = "i0123456789abcdefghij"
	g := New(Config{Domain: "cube.test:8443", Log: slog.New(slog.DiscardHandler)})
	for _, row := range []struct {
		host, sandbox, port string
		takes               bool
		want                target
	}{
		{"49983-" + id + ".cube.test", "", "", true, target{id, 49983}},
		{"49983-" + id + ".cube.test:8443", "", "", true, target{id, 49983}},
		{"49983-" + strings.ToUpper(id) + ".Cube.Test", "", "", true, target{id, 49983}},
		{"8000-" + id + ".localhost:3000", "", "", true, target{id, 8000}},
		{"8000-" + id + ".anything.example", "", "", true, target{id, 8000}},
		{"8000-" + id + "-cube.localhost", "", "", true, target{id, 8000}},   // as old clients write it
		{"8000-" + id + ".localhost", "iother", "1", true, target{id, 8000}}, // the name is what the browser shows
		{"localhost:3000", id, "49983", true, target{id, 49983}},
		{"127.0.0.1:3000", id, "49983", true, target{id, 49983}},
		{"[::1]:3000", id, "49983", true, target{id, 49983}},
		{"sandbox.cube.test:8443", id, "49983", true, target{id, 49983}},
		{"api.cube.test", id, "49983", false, target{}},
		{"sandbox.evil.example", id, "49983", false, target{}},
		{"localhost", "", "49983", false, target{}},
		{"api.cube.test", "", "", false, target{}},
		{"localhost", "", "", false, target{}},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = row.host
		if row.sandbox != "" {
			r.Header.Set(sandboxHeader, row.sandbox)
		}
		if row.port != "" {
			r.Header.Set(portHeader, row.port)
		}
		if got := g.Takes(r); got != row.takes {
			t.Errorf("%+v: taken %v", row, got)
			continue
		}
		if !row.takes {
			continue
		}
		if got, err := g.target(r); err != nil || got != row.want {
			t.Errorf("%+v: target %+v, %v", row, got, err)
		}
	}
}

func TestKeysOfTheServerDoNotGetIn(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%q %q %q %s %s", r.Header.Get("X-Api-Key"), r.Header.Get("X-Host-Key"), r.Header.Get("Authorization"), r.Host, r.Header.Get("Accept-Encoding"))
	})
	id := w.create(t)
	resp := w.get(t, id, "/", "X-Api-Key", "k", "X-Host-Key", "h", "Authorization", "Basic mine", "Accept-Encoding", "br")
	body, _ := io.ReadAll(resp.Body)
	if want := fmt.Sprintf(`"" "" "Basic mine" 8000-%s.cube.test br`, id); string(body) != want {
		t.Errorf("inside it is %s, want %s", body, want)
	}
}

func TestAStreamIsFlushedAndBreaksWhenTheSandboxEnds(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	id := w.create(t)
	body := bufio.NewReader(w.get(t, id, "/").Body)
	if line, err := body.ReadString('\n'); err != nil || line != "first\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := w.sandboxes.Kill(t.Context(), id, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, body); err == nil {
		t.Error("the stream ends as if it were complete")
	}
}

// TestAnAnswerMayComeBeforeTheEndOfTheBody sends the end of a body late, as the
// SDKs do now and then, to a server that answers at once.
func TestAnAnswerMayComeBeforeTheEndOfTheBody(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if _, err := io.ReadFull(r.Body, make([]byte, 5)); err != nil {
			t.Error(err)
		}
		for n := range 50 {
			_, _ = fmt.Fprintln(w, n)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Millisecond) // the answer takes its time
		}
		_, _ = io.Copy(io.Discard, r.Body) // net/http panics otherwise
	})
	id := w.create(t)
	for range 20 {
		body, send := io.Pipe()
		req, err := http.NewRequest(http.MethodPost, w.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "8000-" + string(id) + ".localhost"
		go func() { _, _ = io.WriteString(send, "hello") }()
		resp, err := w.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = send.Close()
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.HasSuffix(answer, []byte("\n49\n")) {
			t.Fatalf("the answer broke off: %q, %v", answer, err)
		}
	}
}

func TestErrorsHaveE2BsForm(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	id := w.create(t)
	const absent = "i00000000000000000000"
	for name, row := range map[string]struct {
		host string
		want map[string]any
	}{
		"an unknown sandbox":       {"1-" + absent + ".localhost", map[string]any{"sandboxId": absent, "message": "The sandbox was not found", "code": 502.0}},
		"an id of another form":    {"1-abc.localhost", map[string]any{"sandboxId": "abc", "message": "The sandbox was not found", "code": 502.0}},
		"a closed port":            {"9-" + string(id) + ".localhost", map[string]any{"sandboxId": string(id), "message": "The sandbox is running but port is not open", "port": 9.0, "code": 502.0}},
		"a server that breaks off": {"8000-" + string(id) + ".localhost", map[string]any{"sandboxId": string(id), "message": messageBroken, "port": 8000.0, "code": 502.0}},
	} {
		t.Run(name, func(t *testing.T) {
			for browser, headers := range map[string][2]string{
				"a program": {"", ""}, "a page's program": {"*/*", "Mozilla/5.0"}, "a person": {"text/html,*/*", "Mozilla/5.0"}, "a person who names nothing": {"", "Mozilla/5.0"},
			} {
				req, err := http.NewRequest("GET", w.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = row.host
				for i, header := range []string{"Accept", "User-Agent"} {
					if headers[i] != "" {
						req.Header.Set(header, headers[i])
					}
				}
				resp, err := w.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				data, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if strings.HasPrefix(browser, "a person") {
					page := string(data)
					if resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(page, "<h1>"+row.want["message"].(string)) ||
						!strings.Contains(page, row.want["sandboxId"].(string)) || !strings.HasPrefix(page, "<html") || !strings.HasSuffix(page, "</html>") {
						t.Errorf("%s gets %s", browser, data)
					}
					continue
				}
				var got map[string]any
				if err := json.Unmarshal(data, &got); err != nil || resp.StatusCode != 502 || fmt.Sprint(got) != fmt.Sprint(row.want) ||
					resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
					t.Errorf("answered %s %s, want %v", resp.Status, data, row.want)
				}
			}
		})
	}
}

func TestSandboxesThatHaveEndedLeaveNoConnections(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })
	for range 3 {
		id := w.create(t)
		_, _ = io.Copy(io.Discard, w.get(t, id, "/").Body)
		if err := w.sandboxes.Kill(t.Context(), id, "test"); err != nil {
			t.Fatal(err)
		}
		w.get(t, id, "/")
	}
	deadline := time.Now().Add(time.Minute)
	for {
		w.gateway.pools.mu.Lock()
		left := len(w.gateway.pools.transports)
		w.gateway.pools.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("connections of %d sandboxes are kept", left)
		}
		time.Sleep(time.Millisecond)
	}
}

func FuzzTarget(f *testing.F) {
	f.Add("8000-i0123456789abcdefghij.localhost:3000", "", "")
	f.Add("localhost", "i0123456789abcdefghij", "80")
	f.Add("[::1]:1", "../x", "-1")
	g := New(Config{Domain: "cube.test", Log: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, host, id, port string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		r.Header[sandboxHeader], r.Header[portHeader] = []string{id}, []string{port}
		if !g.Takes(r) {
			return
		}
		got, err := g.target(r)
		if err != nil {
			return
		}
		if _, err := cube.ParseSandboxID(string(got.id)); err != nil || got.port == 0 {
			t.Errorf("host %q, id %q, port %q: target %+v", host, id, port, got)
		}
	})
}

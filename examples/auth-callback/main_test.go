package main

import (
	"bufio"
	"context"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cube"
	"cube/auth"
	"cube/auth/callback"
	"cube/internal/requestid"
)

// services are the two examples: each serves a file of keys until the test ends,
// and returns its URL.
var services = []struct {
	name  string
	start func(t *testing.T, file string, flags ...string) string
}{
	{"go", startGo},
	{"python", startPython},
}

func startGo(t *testing.T, file string, flags ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, append(flags, "--listen", "127.0.0.1:0", "--keys", file), write)
		write.CloseWithError(err)
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return firstLine(t, read)
}

func startPython(t *testing.T, file string, flags ...string) string {
	t.Helper()
	cmd := python(t, file, flags...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return firstLine(t, out)
}

func python(t *testing.T, file string, flags ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), "python3",
		append([]string{"-I", "-B", "callback.py", "--listen", "127.0.0.1:0", "--keys", file}, flags...)...)
}

func firstLine(t *testing.T, out io.Reader) string {
	t.Helper()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the service does not start: %v", err)
	}
	return strings.TrimSpace(line)
}

// newDoor is a server that asks a service. Its handler answers with who the door
// says asks.
func newDoor(t *testing.T, service callback.Config) *httptest.Server {
	t.Helper()
	door, err := auth.New(auth.Config{Rules: auth.Rules{Callback: service}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	server := httptest.NewServer(requestid.Middleware(door.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := cube.IdentityFrom(r.Context())
		fmt.Fprintf(w, "%s of %s %v", id.Subject, id.Team, id.Scopes)
	}))))
	t.Cleanup(server.Close)
	return server
}

// send makes a request of "METHOD /path" with a header of "Name: value", and
// returns the status and the body.
func send(t *testing.T, base, line, header string) (int, string) {
	t.Helper()
	method, path, _ := strings.Cut(line, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if name, value, has := strings.Cut(header, ": "); has {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// The file that the README's commands use, through a real door.
func TestThroughTheDoor(t *testing.T) {
	const (
		full     = "Authorization: Bearer secret-key-1"
		readOnly = "X-API-Key: readonly-key-1"
		ci       = "X-API-Key: ci-key-1"
	)
	for _, service := range services {
		t.Run(service.name, func(t *testing.T) {
			door := newDoor(t, callback.Config{URLs: []string{service.start(t, "keys.json")}})
			for _, row := range []struct {
				line, header string
				want         int
				who          string
			}{
				{"GET /templates/x", full, 200, "ada of red [cube:operator]"},
				{"DELETE /templates/x", full, 200, "ada of red [cube:operator]"},
				{"GET /templates/x", readOnly, 200, "dashboard of red []"},
				{"DELETE /templates/x", readOnly, 401, ""},
				{"POST /templates/x", readOnly, 401, ""},
				{"PATCH /templates/x", "Authorization: Bearer readonly-key-1", 401, ""},
				{"GET /templates/x", "Authorization: Bearer readonly-key-1", 200, "dashboard of red []"},
				{"GET /templates/x", ci, 200, "ci of blue []"},
				{"GET /templates/team%2Fx:tag", ci, 200, "ci of blue []"},
				{"GET /templates/x/builds/y/status", ci, 200, "ci of blue []"},
				{"DELETE /templates/x", ci, 401, ""},
				{"GET /templates", ci, 401, ""},
				{"POST /sandboxes", ci, 200, "ci of blue []"},
				{"GET /sandboxes", ci, 401, ""},
				{"DELETE /sandboxes/x", ci, 200, "ci of blue []"},
				{"POST /sandboxes/x/timeout", ci, 200, "ci of blue []"},
				{"POST /sandboxes/x/other", ci, 401, ""},
				{"GET /sandboxes/x/timeout", ci, 401, ""},
				{"GET /templates/x", "X-API-Key: another", 401, ""},
				{"GET /templates/x", "X-API-Key: secret-key", 401, ""},
				{"GET /templates/x", "X-API-Key: 89f2a002bebe61bbae4cc87b61a1dcb12602668b44fcf476eba26aed2d5ca0b4", 401, ""},
				{"GET /templates/x", "", 401, ""},
			} {
				status, body := send(t, door.URL, row.line, row.header)
				if status != row.want || row.want == 200 && body != row.who {
					t.Errorf("%s with %q: %d %s, want %d %s", row.line, row.header, status, body, row.want, row.who)
				}
			}
		})
	}
}

// What each rule allows, asked as Cube asks.
func TestRules(t *testing.T) {
	rules := []string{"GET /a", "GET,HEAD /b/*", "POST /c/*/d", "* /e", "PUT /f/**", "PATCH /g/*/**", "GET /"}
	rows := []struct {
		line string
		want int // of the rules; -1 for none
	}{
		{"GET /a", 0}, {"HEAD /a", -1}, {"get /a", -1}, {"GET /a/b", -1}, {"GET /A", -1}, {"GET /%61", -1}, {"GET a", 0},
		{"GET /b/x", 1}, {"HEAD /b/x", 1}, {"GET,HEAD /b/x", -1}, {"GET /b", -1}, {"GET /b/x/y", -1}, {"GET /b/x%2Fy", 1},
		{"POST /c/x/d", 2}, {"POST /c/x/e", -1}, {"POST /c/d", -1},
		{"DELETE /e", 3}, {"* /e", 3}, {"DELETE /e/x", -1},
		{"PUT /f/x", 4}, {"PUT /f/x/y/z", 4}, {"PUT /f", -1}, {"PUT /fx", -1},
		{"PATCH /g/x/y", 5}, {"PATCH /g/x", -1}, {"PATCH /g/x/y/z", 5},
		{"GET /", 6}, {"GET /x", -1},
	}
	var keys []string
	for n, rule := range rules {
		keys = append(keys, fmt.Sprintf(`{"key": "k%d", "allow": [%q]}`, n, rule))
	}
	file := fileOf(t, `{"keys": [`+strings.Join(keys, ",")+`]}`)
	for _, service := range services {
		t.Run(service.name, func(t *testing.T) {
			url := service.start(t, file)
			for _, row := range rows {
				for n, rule := range rules {
					method, path, _ := strings.Cut(row.line, " ")
					want := http.StatusForbidden
					if n == row.want {
						want = http.StatusOK
					}
					if got := ask(t, "POST", url, "X-Request-Method", method, "X-Request-Path", path, "X-Api-Key", fmt.Sprint("k", n)); got != want {
						t.Errorf("%q for %s: %d, want %d", rule, row.line, got, want)
					}
				}
			}
		})
	}
}

func TestWhatCubeWouldNotAskIsRefused(t *testing.T) {
	for _, service := range services {
		t.Run(service.name, func(t *testing.T) {
			url := service.start(t, "keys.json")
			key := []string{"Authorization", "Bearer secret-key-1"}
			what := append([]string{"X-Request-Method", "GET", "X-Request-Path", "/x"}, key...)
			if got := ask(t, "POST", url, what...); got != 200 {
				t.Fatalf("what Cube asks: %d", got)
			}
			for name, got := range map[string]int{
				"no path":         ask(t, "POST", url, append([]string{"X-Request-Method", "GET"}, key...)...),
				"no method":       ask(t, "POST", url, append([]string{"X-Request-Path", "/x"}, key...)...),
				"no key":          ask(t, "POST", url, what[:4]...),
				"an empty bearer": ask(t, "POST", url, append(what[:4:4], "Authorization", "Bearer ")...),
				"another scheme":  ask(t, "POST", url, append(what[:4:4], "Authorization", "Basic secret-key-1")...),
				"another method":  ask(t, "GET", url, what...),
				"another address": ask(t, "POST", strings.TrimSuffix(url, "verify")+"other", what...),
			} {
				if got < 400 {
					t.Errorf("%s: %d", name, got)
				}
			}
		})
	}
}

// ask sends headers, name by name, and returns the status.
func ask(t *testing.T, method, url string, headers ...string) int {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return askWith(t, method, url, h)
}

func askWith(t *testing.T, method, url string, h http.Header) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = h
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func fileOf(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A file that could be meant in two ways starts no service, which says what to
// write without showing a key.
func TestFilesAreRefused(t *testing.T) {
	for name, row := range map[string]struct{ content, says string }{
		"no JSON":               {`keys`, ""},
		"another object":        {`{"users": []}`, ""},
		"no keys":               {`{"keys": []}`, "no key"},
		"more behind it":        {`{"keys": [{"key": "SECRET", "role": "full"}]} {}`, ""},
		"an unknown field":      {`{"keys": [{"key": "SECRET", "role": "full", "mehtods": []}]}`, "mehtods"},
		"another type":          {`{"keys": ["SECRET"]}`, ""},
		"rules of another type": {`{"keys": [{"key": "SECRET", "allow": [7]}]}`, ""},
		"neither key nor hash":  {`{"keys": [{"role": "full"}]}`, "key 1"},
		"key and hash":          {`{"keys": [{"key": "SECRET", "sha256": "00", "role": "full"}]}`, "one of the two"},
		"half a hash":           {`{"keys": [{"sha256": "00ff", "role": "full"}]}`, "64 hexadecimal"},
		"role and rules":        {`{"keys": [{"key": "SECRET", "role": "full", "allow": ["GET /"]}]}`, "one of the two"},
		"neither":               {`{"keys": [{"key": "SECRET"}]}`, "one of the two"},
		"an unknown role":       {`{"keys": [{"key": "SECRET", "role": "admin"}]}`, "admin"},
		"a key twice":           {`{"keys": [{"key": "SECRET", "role": "full"}, {"key": "SECRET", "role": "read-only"}]}`, "twice"},
		"a rule without method": {`{"keys": [{"key": "SECRET", "allow": ["/a"]}]}`, "such as"},
		"a rule without slash":  {`{"keys": [{"key": "SECRET", "allow": ["GET a"]}]}`, "such as"},
		"a lower-case method":   {`{"keys": [{"key": "SECRET", "allow": ["get /a"]}]}`, "such as"},
		"** in the middle":      {`{"keys": [{"key": "SECRET", "allow": ["GET /**/a"]}]}`, "such as"},
		"half a segment":        {`{"keys": [{"key": "SECRET", "allow": ["GET /a*"]}]}`, "such as"},
		"a name with a blank":   {`{"keys": [{"key": "SECRET", "role": "full", "subject": "a b"}]}`, "blanks"},
		"a header in a name":    {`{"keys": [{"key": "SECRET", "role": "full", "team": "a\r\nX-Auth-Scopes: cube:operator"}]}`, "blanks"},
	} {
		t.Run(name, func(t *testing.T) {
			file := fileOf(t, row.content)
			err := run(t.Context(), []string{"--listen", "127.0.0.1:0", "--keys", file}, io.Discard)
			if err == nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("go: error = %v, want one with %q", err, row.says)
			}
			out, err := python(t, file).CombinedOutput()
			if err == nil || !strings.Contains(string(out), row.says) || strings.Contains(string(out), "Traceback") || strings.Contains(string(out), "SECRET") {
				t.Errorf("python: %v, %s; want a failure with %q", err, out, row.says)
			}
		})
	}
}

func TestAShortSigningKeyIsRefused(t *testing.T) {
	file := fileOf(t, "fifteen bytes.. \n")
	for name, start := range map[string]func() error{
		"go": func() error {
			return run(t.Context(), []string{"--listen", "127.0.0.1:0", "--keys", "keys.json", "--signing-key-file", file}, io.Discard)
		},
		"python": func() error {
			out, err := python(t, "keys.json", "--signing-key-file", file).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		},
	} {
		if err := start(); err == nil || !strings.Contains(err.Error(), "16 bytes") || strings.Contains(err.Error(), "fifteen") {
			t.Errorf("%s: error = %v", name, err)
		}
	}
}

// What operators copy must not need this module.
func TestTheExampleNeedsTheStandardLibraryAlone(t *testing.T) {
	for _, name := range []string{"main.go", "keys.go", "signature.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range file.Imports {
			if strings.Contains(i.Path.Value, ".") || strings.HasPrefix(i.Path.Value, `"cube`) {
				t.Errorf("%s imports %s", name, i.Path.Value)
			}
		}
	}
}

// Package e2e tests the whole: bin/cube-api as a user runs it, with the official
// SDKs, unmodified, and real sandboxes, on a network of the tests' own. It uses
// nothing of the server but its binary and its addresses.
package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cube/engine/gvisor/launch"
	"cube/internal/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// server is a running cube-api.
type server struct {
	key    string // of the one who cleans up
	client *http.Client
	t      *testing.T
	args   []string
	dir    string // its data directory
	url    string
	cmd    *exec.Cmd
	log    *logBuffer
	done   chan struct{} // closed when the process has ended
}

// start starts a server with a data directory of its own. When the test ends,
// so do its sandboxes and it, and nothing may be left of them.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "cube")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, client: http.DefaultClient, args: args, dir: dir, key: fullKey, log: &logBuffer{}}
	s.launch()
	t.Cleanup(func() {
		for _, id := range s.list() {
			s.kill(id)
		}
		s.stop(syscall.SIGTERM)
		wantNoSecrets(t, s)
		left := testhost.Leftovers(dir)
		if groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + launch.Name(dir)); len(groups) > 0 {
			left = append(left, groups...)
		}
		if len(left) > 0 {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log)
		}
	})
	return s
}

var readyLine = regexp.MustCompile(`ready" url=(\S+)`)

// launch starts the process and returns once it takes requests.
func (s *server) launch() {
	s.t.Helper()
	args := append([]string{"--bind", "127.0.0.1:0", "--data-dir", s.dir, "--log-level", "debug", "--pool-size", "0"}, s.args...)
	s.cmd = exec.Command("../bin/cube-api", args...)
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("starting the server (is it built? 'make build'): %v", err)
	}
	ready := make(chan string, 1)
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		defer close(ready)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			s.log.add(lines.Text())
			if match := readyLine.FindStringSubmatch(lines.Text()); match != nil {
				ready <- match[1]
			}
		}
		_ = s.cmd.Wait()
	}()
	select {
	case s.url = <-ready:
	case <-time.After(time.Minute):
	}
	if s.url == "" {
		s.t.Fatalf("the server did not start:\n%s", s.log)
	}
}

// stop ends the process with a signal and waits for its end.
func (s *server) stop(signal syscall.Signal) {
	s.t.Helper()
	_ = s.cmd.Process.Signal(signal)
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		s.t.Errorf("the server does not end on %v", signal)
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	if code := s.cmd.ProcessState.ExitCode(); signal == syscall.SIGTERM && code != 0 {
		s.t.Errorf("the server ends with status %d", code)
	}
	s.url = ""
}

// crash kills the server and starts it again on the same data.
func (s *server) crash() {
	s.t.Helper()
	s.stop(syscall.SIGKILL)
	s.launch()
}

// environment is what a user sets for the SDKs.
func (s *server) environment(more ...string) []string {
	return append(append(os.Environ(),
		"E2B_API_URL="+s.url,
		"E2B_SANDBOX_URL="+s.url,
		"E2B_API_KEY="+fullKey,
		// A key, a domain or a proxy of the person who runs the tests.
		"E2B_DOMAIN=", "E2B_ACCESS_TOKEN=", "HTTP_PROXY=", "HTTPS_PROXY=", "http_proxy=", "https_proxy=",
	), more...)
}

// call sends a request and returns the status and the body.
func (s *server) call(method, path string, body any, headers ...string) (int, []byte) {
	s.t.Helper()
	status, answer, err := s.try(method, path, body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return status, answer
}

func (s *server) try(method, path string, body any, headers ...string) (int, []byte, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, s.url+path, reader)
	if err != nil {
		return 0, nil, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

type sandbox struct {
	SandboxID       string `json:"sandboxID"`
	EnvdAccessToken string `json:"envdAccessToken"`
}

// create creates a sandbox that must come to be.
func (s *server) create() sandbox {
	s.t.Helper()
	status, body := s.call("POST", "/v2/sandboxes", map[string]any{"templateID": "base", "timeout": 300}, "X-API-Key", fullKey)
	var created sandbox
	if err := json.Unmarshal(body, &created); status != http.StatusCreated || err != nil {
		s.t.Fatalf("creating a sandbox: %d %s", status, body)
	}
	return created
}

func (s *server) list() []string {
	status, body := s.call("GET", "/v2/sandboxes", nil, "X-API-Key", s.key)
	var list []sandbox
	if err := json.Unmarshal(body, &list); status != http.StatusOK || err != nil {
		s.t.Fatalf("listing: %d %s", status, body)
	}
	var ids []string
	for _, item := range list {
		ids = append(ids, item.SandboxID)
	}
	return ids
}

func (s *server) kill(id string) int {
	status, _ := s.call("DELETE", "/sandboxes/"+id, nil, "X-API-Key", s.key)
	return status
}

// health asks the agent in a sandbox, through the proxy.
func (s *server) health(id string) int {
	status, _ := s.call("GET", "/health", nil, "E2b-Sandbox-Id", id, "E2b-Sandbox-Port", "49983")
	return status
}

// logBuffer keeps what a server logs, from several goroutines.
type logBuffer struct {
	mu      sync.Mutex
	lines   []string
	awaited int // the line after the one that await returned for
}

func (b *logBuffer) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "\n")
}

// The keys of the callback. The SDKs check their form.
const (
	fullKey     = "e2b_0000000000000000000000000000000000000001"
	readonlyKey = "e2b_0000000000000000000000000000000000000002"
	wrongKey    = "e2b_0000000000000000000000000000000000000003"
)

// callback is an operator's service: the rules of the documentation's example.
func callback(t *testing.T) string {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if key == "" {
			key = r.Header.Get("X-API-Key")
		}
		method := r.Header.Get("X-Request-Method")
		switch {
		case key == fullKey:
		case key == readonlyKey && (method == "GET" || method == "HEAD"):
		case key == readonlyKey:
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(service.Close)
	return service.URL + "/verify"
}

func TestJavaScriptSDK(t *testing.T) {
	s := start(t)
	run(t, s.environment(), "js", "node", "--test", "--test-timeout=180000", "sandbox.test.mjs", "files.test.mjs", "link.test.mjs")
}

func TestJavaScriptSDKWithCallback(t *testing.T) {
	s := start(t, "--auth-callback-url", callback(t), "--audit")
	run(t, s.environment("FULL_KEY="+fullKey, "READONLY_KEY="+readonlyKey, "WRONG_KEY="+wrongKey),
		"js", "node", "--test", "--test-timeout=180000", "sandbox.test.mjs", "key.test.mjs")
}

func TestCLI(t *testing.T) {
	s := start(t)
	run(t, s.environment(), "js", "node", "--test", "--test-timeout=180000", "cli.test.mjs", "cli.template.test.mjs")
}

func TestPythonSDK(t *testing.T) {
	s := start(t)
	run(t, s.environment(), "python", ".venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
}

func TestPythonSDKWithCallback(t *testing.T) {
	s := start(t, "--auth-callback-url", callback(t), "--audit")
	run(t, s.environment("FULL_KEY="+fullKey, "READONLY_KEY="+readonlyKey, "WRONG_KEY="+wrongKey),
		"python", ".venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
}

func TestTemplates(t *testing.T) {
	s := start(t)
	run(t, s.environment(), "js", "node", "--test", "--test-timeout=240000", "template.test.mjs")
}

func TestCodeInterpreter(t *testing.T) {
	s := start(t)
	binary, err := filepath.Abs("../bin/cube-api")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.environment("CUBE_API="+binary, "PREPARED=1"), "../templates/code-interpreter-v1", "./build")
	run(t, s.environment(), "js", "node", "--test", "--test-timeout=240000", "interpreter.test.mjs")
}

// run runs a suite and shows what it says if it fails.
func run(t *testing.T, environment []string, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = environment
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		return
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(strings.Join(lines[max(0, len(lines)-9):], "\n"))
}

var sandboxDirectory = regexp.MustCompile(`/sandboxes/i[a-z0-9]{20}$`)

// tryCreate creates a sandbox; an error means that no answer came.
func (s *server) tryCreate() (string, error) {
	status, body, err := s.try("POST", "/v2/sandboxes", map[string]any{"templateID": "base", "timeout": 300}, "X-API-Key", fullKey)
	if err != nil {
		return "", err
	}
	var created sandbox
	if err := json.Unmarshal(body, &created); err != nil || status != http.StatusCreated {
		return "", fmt.Errorf("creating: %d %s", status, body)
	}
	return created.SandboxID, nil
}

func TestJavaScriptSDKPauses(t *testing.T) {
	s := start(t)
	run(t, s.environment(), "js", "node", "--test", "--test-timeout=180000", "pause.test.mjs", "snapshot.test.mjs")
}

package remote

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cube"
	"cube/build"
)

// directory is one with files by their names; a value that begins with -> is a
// link.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, isLink := strings.CutPrefix(content, "->"); isLink {
			err = os.Symlink(to, at)
		} else {
			err = os.WriteFile(at, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// packed are the names in the archive of a source.
func packed(t *testing.T, dir, source string) (hash string, names []string, err error) {
	t.Helper()
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	steps := []build.Step{{Type: "RUN", Args: []string{"x"}}, {Type: "COPY", Args: []string{source, "/"}}}
	all, err := d.Pack(steps)
	if err != nil {
		return "", nil, err
	}
	hash = steps[1].FilesHash
	archive, err := all[hash].archive()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return hash, names, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestWhatIsPacked(t *testing.T) {
	dir := directory(t, map[string]string{
		".dockerignore": "# not these\n*.log\nnode_modules\n!keep.log\n", "a.txt": "a", "b.txt": "b", "keep.log": "k", "drop.log": "d",
		"src/main.go": "m", "src/x.log": "x", "src/deep/y": "y", "node_modules/z/z": "z", "link": "->a.txt", "out": "->/etc/passwd", "up": "->../x", "loop": "->loop", "gone": "->none", "folder": "->src",
	})
	for source, want := range map[string][]string{
		"a.txt":        {"a.txt"},
		"./a.txt":      {"a.txt"},
		"src/../a.txt": {"a.txt"},
		"*.txt":        {"a.txt", "b.txt"},
		"src":          {"src/", "src/deep/", "src/deep/y", "src/main.go", "src/x.log"},
		"src/":         {"src/", "src/deep/", "src/deep/y", "src/main.go", "src/x.log"},
		"src/*.go":     {"src/main.go"},
		"/a.txt":       {"a.txt"},
		"src/*":        {"src/", "src/y", "src/main.go", "src/x.log"},
		"*/main.go":    {"main.go", "main.go"},
		"?.txt":        {"a.txt", "b.txt"},
		"[ab].txt":     {"a.txt", "b.txt"},
		"folder":       {"folder/", "folder/deep/", "folder/deep/y", "folder/main.go", "folder/x.log"},
		"s*/deep":      {"src/deep/", "src/deep/y"},
		"link":         {"link"},
		"*.log":        {"keep.log"},
		".":            {"./", ".dockerignore", "a.txt", "b.txt", "folder", "gone", "keep.log", "link", "loop", "out", "src/", "src/deep/", "src/deep/y", "src/main.go", "src/x.log", "up"},
	} {
		if _, names, err := packed(t, dir, source); err != nil || !slices.Equal(names, want) {
			t.Errorf("%s is %q, %v; want %q", source, names, err, want)
		}
	}
	for source, words := range map[string]string{
		"../x": "outside", "src/../../x": "outside", "none": "no such file", "drop.log": "leaves it out", "*.none": "no such file", "out/x": "",
		"out": "outside", "up": "outside", "loop": "leads nowhere", "gone": "no such file", "[a": "no pattern", "node_modules/*": "leaves it out",
	} {
		if _, names, err := packed(t, dir, source); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s is %q, %v; want an error with %q", source, names, err, words)
		}
	}
}

// TestPatterns: docker copies what is in a directory that a pattern stands for,
// files by their names alone, and one file as one.
func TestPatterns(t *testing.T) {
	dir := directory(t, map[string]string{"a-1.txt": "a", "b/1.txt": "b", "c/2.txt": "c", "[id].tsx": "d"})
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, c := range []struct{ source, to, means, fails string }{
		{"a-*.txt", "/srv/a", "a-1.txt", ""},
		{"*/*.txt", "/srv/", "*/*.txt", ""},
		{"*/*.txt", ".", "*/*.txt", ""},
		{"*/*.txt", "/srv", "", "COPY */*.txt: it stands for 2 files, and they need a directory, which ends with '/': /srv/"},
		{"[[]id].tsx", "/srv/", "[[]id].tsx", ""},
		{"x*", "/srv/", "", "COPY x*: there is no such file in the directory, or .dockerignore leaves it out"},
	} {
		steps := []build.Step{{Type: "COPY", Args: []string{c.source, c.to}}}
		_, err := d.Pack(steps)
		if e, ok := errors.AsType[*StepError](err); c.fails != "" && (!ok || e.Step != 0 || err.Error() != c.fails) {
			t.Errorf("COPY %s %s: %v; want %s", c.source, c.to, err, c.fails)
		}
		if c.fails == "" && (err != nil || steps[0].Args[0] != c.means) {
			t.Errorf("COPY %s %s: %q, %v; want %s", c.source, c.to, steps[0].Args, err, c.means)
		}
	}
}

func TestTheSameFilesHaveTheSameHash(t *testing.T) {
	files := map[string]string{"a/x": "1", "a/y": "->x"}
	first, _, err := packed(t, directory(t, files), "a")
	if err != nil {
		t.Fatal(err)
	}
	if again, _, err := packed(t, directory(t, files), "a"); err != nil || again != first {
		t.Errorf("the hash is %s, %v; want %s", again, err, first)
	}
	files["a/x"] = "2"
	if other, _, err := packed(t, directory(t, files), "a"); err != nil || other == first {
		t.Errorf("the hash of other files is the same: %s, %v", other, err)
	}
}

// TestBuild is against a server that says what one would.
func TestBuild(t *testing.T) {
	var asked, uploaded []string
	var started map[string]any
	polls := 0
	reason := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		what := r.Method + " " + r.URL.Path
		asked = append(asked, what)
		if r.Header.Get("X-API-Key") != "key" && r.Method != http.MethodPut {
			t.Errorf("%s came without the key", what)
		}
		switch {
		case what == "POST /v3/templates":
			if string(body) == `{"name":"bad"}` {
				w.WriteHeader(http.StatusBadRequest)
				io.WriteString(w, `{"code":400,"message":"the name is taken"}`)
				return
			}
			w.WriteHeader(http.StatusAccepted)
			io.WriteString(w, `{"templateID":"tpl","buildID":"b1"}`)
		case strings.HasPrefix(what, "GET /templates/tpl/files/"):
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"present":%v,"url":"/upload/%s","headers":{"X-Signed":"s"}}`, len(uploaded) > 5, r.URL.Path[len("/templates/tpl/files/"):])
		case r.Method == http.MethodPut:
			if r.Header.Get("X-Signed") != "s" || r.ContentLength != int64(len(body)) || r.ContentLength <= 0 {
				t.Errorf("the upload has %d bytes and headers %v", r.ContentLength, r.Header)
			}
			uploaded = append(uploaded, r.URL.Path)
		case what == "POST /v2/templates/tpl/builds/b1":
			json.Unmarshal(body, &started)
			w.WriteHeader(http.StatusAccepted)
		case what == "GET /templates/tpl/builds/b1/status":
			polls++
			status, entries := "building", ""
			if polls < 3 {
				entries = fmt.Sprintf(`{"timestamp":"2026-01-02T03:04:05Z","level":"info","message":"line %s"}`, r.URL.Query().Get("logsOffset"))
			} else if status = "ready"; reason != "" {
				status = "error"
			}
			fmt.Fprintf(w, `{"status":%q,"logEntries":[%s],"reason":{"message":%q,"step":"3"}}`, status, entries, reason)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	s := Server{URL: server.URL, Key: "key"}
	d, err := OpenDirectory(directory(t, map[string]string{"a": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	steps := []build.Step{{Type: "COPY", Args: []string{"a", "/a"}}}
	files, err := d.Pack(steps)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(archive, []byte("archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	var lines []string
	built, err := s.Build(t.Context(), Template{Name: "x", CPUs: 2, FromArchive: archive, Steps: steps, Files: files, StartCmd: "run"}, func(e cube.LogEntry) { lines = append(lines, e.Message) })
	if err != nil || built != (Built{"tpl", "b1"}) {
		t.Errorf("it is %v, %v", built, err)
	}
	if len(uploaded) != 2 || !slices.Equal(lines, []string{"line 0", "line 1"}) {
		t.Errorf("uploaded %q, with the log %q", uploaded, lines)
	}
	if started["startCmd"] != "run" || len(started["fromArchive"].(string)) != 64 || started["fromImage"] != nil ||
		started["steps"].([]any)[0].(map[string]any)["filesHash"] != steps[0].FilesHash {
		t.Errorf("it was asked to build %v", started)
	}

	_, err = s.Build(t.Context(), Template{Name: "bad"}, nil)
	if err == nil || err.Error() != "the name is taken (400 Bad Request)" {
		t.Errorf("the error is %v", err)
	}
	polls, reason = 2, "step 3 failed"
	if _, err = s.Build(t.Context(), Template{Name: "x", From: "ubuntu"}, nil); err == nil || err.Error() != "step 3 failed" {
		t.Errorf("the error is %v", err)
	}
	if e, ok := errors.AsType[*StepError](err); !ok || e.Step != 2 {
		t.Errorf("the error is %#v; want that of the third step", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = s.Build(gone, Template{Name: "x"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

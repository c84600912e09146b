package envd

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func tarOf(t *testing.T, name, content string) io.Reader {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

func TestOnlyTheServerBuilds(t *testing.T) {
	a := start(t, func(r *initRequest) { r.AccessToken = "token" })
	a.token = "token"
	for _, path := range []string{"/build/provision", "/build/user", "/build/workdir", "/build/copy"} {
		for _, key := range []string{"", "token", "another key"} {
			if got := a.do(http.MethodPost, path, strings.NewReader("{}"), http.Header{hostKeyHeader: {key}}); got.status != http.StatusUnauthorized {
				t.Errorf("%s with the key %q: %d %s", path, key, got.status, got.body)
			}
		}
	}
	uninitialised := listen(t)
	if got := uninitialised.do(http.MethodPost, "/build/copy", nil, http.Header{hostKeyHeader: {""}}); got.status != http.StatusUnauthorized {
		t.Errorf("before the first settings: %d %s", got.status, got.body)
	}
}

func TestBuildCopyPutsAnArchivesFiles(t *testing.T) {
	a := start(t)
	dir := t.TempDir()
	server := http.Header{hostKeyHeader: {"key of the host"}}
	copying := func(query url.Values, body io.Reader) answer {
		return a.do(http.MethodPost, "/build/copy?"+query.Encode(), body, server)
	}
	got := copying(url.Values{"source": {"a"}, "destination": {"sub/"}, "workdir": {dir}, "mode": {"0600"}}, tarOf(t, "a", "content"))
	if got.status != http.StatusOK || strings.TrimSpace(got.body) != `{"entries":1}` {
		t.Fatalf("answered %d %s", got.status, got.body)
	}
	content, err := os.ReadFile(filepath.Join(dir, "sub/a"))
	if err != nil || string(content) != "content" {
		t.Errorf("%q, %v", content, err)
	}
	for want, query := range map[string]url.Values{
		"source path does not exist: b": {"source": {"b"}, "destination": {dir}},
		"invalid mode":                  {"source": {"a"}, "destination": {dir}, "mode": {"rw"}},
		"invalid user: 'nosuchuser'":    {"source": {"a"}, "destination": {dir}, "owner": {"nosuchuser"}},
		"invalid username: 'nobody2'":   {"source": {"a"}, "destination": {dir}, "user": {"nobody2"}},
	} {
		if got := copying(query, tarOf(t, "a", "content")); got.status != http.StatusBadRequest || !strings.Contains(got.message(t), want) {
			t.Errorf("%v is answered with %d %s", query, got.status, got.body)
		}
	}
}

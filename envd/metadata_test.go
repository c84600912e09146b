package envd

import (
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMetadataStayWithAFile(t *testing.T) {
	a := start(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(path, "user.test", []byte("x"), 0); err != nil {
		t.Skipf("the file system of %s keeps no extended attributes: %v", dir, err)
	}
	upload := func(metadata ...string) {
		t.Helper()
		header := octets.Clone()
		for i := 0; i < len(metadata); i += 2 {
			header.Set("X-Metadata-"+metadata[i], metadata[i+1])
		}
		if got := a.do(http.MethodPost, fileURL(path), strings.NewReader("x"), header); got.status != http.StatusOK {
			t.Fatalf("uploading: %d %s", got.status, got.body)
		}
	}
	want := func(metadata map[string]string) {
		t.Helper()
		entry, err := a.stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(metadata, entry.GetMetadata()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	upload("Author", "somebody", "Purpose", "a test")
	want(map[string]string{"author": "somebody", "purpose": "a test"})
	upload("Author", "another")
	want(map[string]string{"author": "another"})
	if err := unix.Setxattr(path, "user.e2b.by-program", []byte("\xff\n"), 0); err != nil {
		t.Fatal(err)
	}
	want(map[string]string{"author": "another", "by-program": "\uFFFD\n"})
	upload()
	want(nil)
	if n, err := unix.Getxattr(path, "user.test", make([]byte, 8)); n != 1 {
		t.Errorf("an attribute that is not ours: %v", err)
	}
}

func TestAFileIsCompressedForThoseWhoAsk(t *testing.T) {
	a := start(t)
	path := filepath.Join(t.TempDir(), "file")
	content := strings.Repeat("some text ", 10_000)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	got := a.do(http.MethodGet, fileURL(path), nil, http.Header{"Accept-Encoding": {"gzip"}})
	if got.header.Get("Content-Encoding") != "gzip" || len(got.body) > len(content)/10 {
		t.Fatalf("%v and %d bytes", got.header, len(got.body))
	}
	unzipped, err := gzip.NewReader(strings.NewReader(got.body))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(unzipped); string(text) != content || err != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestPartsBecomeOneFile(t *testing.T) {
	a := start(t)
	dir := tree(t, "one", "two", "sub/old")
	compose := func(body string) answer {
		return a.do(http.MethodPost, "/files/compose", strings.NewReader(strings.ReplaceAll(body, "DIR", dir)), http.Header{"Content-Type": {"application/json"}})
	}
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"no sources":           {`{"source_paths":[],"destination":"DIR/x"}`, 400},
		"no destination":       {`{"source_paths":["DIR/one"]}`, 400},
		"a missing source":     {`{"source_paths":["DIR/one","DIR/three"],"destination":"DIR/x"}`, 404},
		"a directory":          {`{"source_paths":["DIR/one","DIR"],"destination":"DIR/x"}`, 400},
		"onto itself":          {`{"source_paths":["DIR/one"],"destination":"DIR/sub/../one"}`, 400},
		"onto a directory":     {`{"source_paths":["DIR/one"],"destination":"DIR/sub"}`, 400},
		"by a stranger":        {`{"source_paths":["DIR/one"],"destination":"DIR/x","username":"nosuchuser"}`, 401},
		"what is no JSON":      {`{`, 400},
		"below what is a file": {`{"source_paths":["DIR/one"],"destination":"DIR/two/x"}`, 400},
	} {
		if got := compose(c.body); got.status != c.status {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.body, c.status)
		}
	}
	if read(t, filepath.Join(dir, "one"))+read(t, filepath.Join(dir, "two")) != "onetwo" {
		t.Fatal("what was refused changed something")
	}
	got := compose(`{"source_paths":["DIR/one","DIR/two","DIR/sub/old"],"destination":"DIR/new/whole"}`)
	if got.status != http.StatusOK || read(t, filepath.Join(dir, "new", "whole")) != "onetwosub/old" {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, source := range []string{"one", "two", "sub/old"} {
		if _, err := os.Lstat(filepath.Join(dir, source)); err == nil {
			t.Errorf("%s is left", source)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "new")); len(entries) != 1 {
		t.Errorf("beside it: %v", entries)
	}
}

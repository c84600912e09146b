package envd

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// brokenBody is a gzip stream of size bytes that breaks off near its end.
func brokenBody(t *testing.T, size int) *bytes.Reader {
	t.Helper()
	content := make([]byte, size) // that cannot be made smaller
	rand.Read(content)
	var body bytes.Buffer
	w := gzip.NewWriter(&body)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(body.Bytes()[:body.Len()-20])
}

// An upload that breaks off, of a body that is kept in memory and of one that is not.
func TestAnUploadThatBreaksOffLeavesTheFileAsItWas(t *testing.T) {
	a := start(t)
	header := octets.Clone()
	header.Set("Content-Encoding", "gzip")
	for _, size := range []int{1000, 3 << 20} {
		dir := t.TempDir()
		path, soft, hard := filepath.Join(dir, "file"), filepath.Join(dir, "soft"), filepath.Join(dir, "hard")
		old := strings.Repeat("what was there ", 10)
		if err := os.WriteFile(path, []byte(old), 0o640); err != nil {
			t.Fatal(err)
		}
		long := time.Now().Add(-time.Hour).Truncate(time.Second)
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(path, hard); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, soft); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{path, soft, hard} {
			got := a.do(http.MethodPost, fileURL(target), brokenBody(t, size), header)
			if got.status != http.StatusBadRequest || !strings.Contains(got.body, "broke off") {
				t.Errorf("answered with %d %s", got.status, got.body)
			}
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != old || info.Mode() != 0o640 || !info.ModTime().Equal(long) {
			t.Errorf("%d bytes: the file is %v of %s, with %d bytes", size, info.Mode(), info.ModTime(), len(got))
		}
		if got := a.do(http.MethodPost, fileURL(filepath.Join(dir, "new")), brokenBody(t, size), header); got.status != http.StatusBadRequest {
			t.Errorf("a new file: answered with %d %s", got.status, got.body)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 3 {
			t.Errorf("%d bytes: there are %v, %v", size, entries, err)
		}
	}
}

// What is uploaded over a file is all that it holds, longer or shorter, in the same
// file: who has it open reads it.
func TestAnUploadReplacesWhatAFileHolds(t *testing.T) {
	a := start(t)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("first"), 0o644); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, size := range []int{3 << 20, 300 << 10, 256 << 10, 10, 2 << 20, 0, 5} {
		content := make([]byte, size)
		rand.Read(content)
		if got := a.do(http.MethodPost, fileURL(path), bytes.NewReader(content), octets); got.status != http.StatusOK {
			t.Fatalf("answered with %d %s", got.status, got.body)
		}
		there := make([]byte, 4<<20)
		n, _ := open.ReadAt(there, 0)
		if !bytes.Equal(there[:n], content) {
			t.Errorf("of %d bytes %d are there, or others", size, n)
		}
	}
}

// A disk that has no room for an upload has the old file still.
func TestAnUploadForWhichThereIsNoRoomLeavesTheFileAsItWas(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("cube-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("only root can mount a file system: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	a := start(t)
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("what was there"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{2 << 20, 1<<20 + 1} {
		got := a.do(http.MethodPost, fileURL(path), bytes.NewReader(make([]byte, size)), octets)
		if got.status != http.StatusInsufficientStorage {
			t.Errorf("answered with %d %s", got.status, got.body)
		}
		if got := read(t, path); got != "what was there" {
			t.Errorf("the file holds %.100q", got)
		}
	}
}

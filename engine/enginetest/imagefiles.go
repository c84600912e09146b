package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"cube"
)

// imageOf makes a layer of files: names to contents, "/" at the end for a
// directory.
func imageOf(t *testing.T, files ...[2]string) cube.ImageLayer {
	t.Helper()
	var headers []tar.Header
	for _, f := range files {
		h := tar.Header{Typeflag: tar.TypeReg, Name: f[0], Mode: 0o644, Size: int64(len(f[1])), Uid: 1000, Gid: 1000}
		if strings.HasSuffix(f[0], "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		headers = append(headers, h)
	}
	return layerOf(t, headers, func(i int) []byte { return []byte(files[i][1]) })
}

// layerOf makes a layer of entries and their contents.
func layerOf(t *testing.T, headers []tar.Header, content func(i int) []byte) cube.ImageLayer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range headers {
		if err := w.WriteHeader(&headers[i]); err != nil {
			t.Fatal(err)
		}
		if headers[i].Typeflag != tar.TypeReg {
			continue
		}
		if _, err := w.Write(content(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	return cube.ImageLayer{
		DiffID: "sha256:" + hex.EncodeToString(sum[:]),
		Open:   func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
	}
}

var libraryPattern = regexp.MustCompile(`/\S+\.so\S*`)

// programs makes a layer of programs of this machine with their libraries, in
// /bin, which everybody may run.
func programs(t *testing.T, names ...string) cube.ImageLayer {
	t.Helper()
	if _, err := exec.LookPath("ldd"); err != nil {
		t.Skip("this machine does not tell which libraries programs need")
	}
	var headers []tar.Header
	var contents [][]byte
	have := map[string]bool{}
	add := func(name, from string) {
		if have[name] {
			return
		}
		have[name] = true
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))})
		contents = append(contents, content)
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("this machine has no %s", name)
		}
		add("bin/"+name, path)
		libraries, err := exec.CommandContext(t.Context(), "ldd", path).Output()
		if err != nil {
			continue // it needs none
		}
		for _, library := range libraryPattern.FindAllString(string(libraries), -1) {
			add(strings.TrimPrefix(library, "/"), library)
		}
	}
	return layerOf(t, headers, func(i int) []byte { return contents[i] })
}

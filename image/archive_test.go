package image

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"cube"
)

// member is one entry of an archive that a test writes.
type member struct {
	name, content, link string
}

func archiveOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.content))}
		if m.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(m.content))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t testing.TB, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func savedByDocker(t testing.TB, img v1.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tarball.Write(name.MustParseReference("app:1"), img, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// laidOut is the tar file of an OCI layout.
func laidOut(t testing.TB, write func(layout.Path) error) []byte {
	t.Helper()
	dir := t.TempDir()
	at, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = write(at)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

func TestArchives(t *testing.T) {
	layers := []v1.Layer{
		newLayer(t, "gzip", tarOf(t, "a", bytes.Repeat([]byte("a"), 300<<10))),
		newLayer(t, "zstd", tarOf(t, "b", bytes.Repeat([]byte("b"), 300<<10))),
		newLayer(t, "none", tarOf(t, "c", nil)),
	}
	img := newImage(t, v1.Config{Env: []string{"A=1"}, Cmd: []string{"sh"}}, layers...)
	other := imageFor(t, v1.Platform{OS: "linux", Architecture: "s390x"}, v1.Config{}, layers[0])
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	old := archiveOf(t,
		member{name: "manifest.json", content: `[{"Config":"c.json","RepoTags":["app:1"],"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"]}]`},
		member{name: "c.json", content: string(config)},
		member{name: "1/layer.tar", content: string(layers[0].(layer).plain)},
		member{name: "3/layer.tar", content: string(layers[2].(layer).plain)},
		member{name: "2/layer.tar", link: "../0/layer.tar"},
		member{name: "0/layer.tar", content: string(layers[1].(layer).plain)},
	)
	oneLayout := laidOut(t, func(p layout.Path) error { return p.AppendImage(img) })
	for form, plain := range map[string][]byte{
		"docker save":        savedByDocker(t, img),
		"an old docker save": old,
		"an OCI layout":      oneLayout,
		"a layout's index": laidOut(t, func(p layout.Path) error {
			return p.AppendIndex(index(entry(other, "linux", "s390x", ""), entry(img, "linux", runtime.GOARCH, "")))
		}),
		"a layout with names": laidOut(t, func(p layout.Path) error {
			return p.AppendImage(img, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
		}),
	} {
		for _, compression := range []string{"none", "gzip", "zstd"} {
			t.Run(form+" "+compression, func(t *testing.T) {
				file := write(t, newLayer(t, compression, plain).sent)
				a, err := OpenArchive(t.Context(), file, 64<<20)
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				if len(a.Image.Layers) != 3 || len(a.Image.Env) != 1 || len(a.Image.Cmd) != 1 || a.Image.Digest == "" {
					t.Errorf("the image is %+v", a.Image)
				}
				if err := readLayers(a.Image); err != nil {
					t.Error(err)
				}
				if there, _ := os.ReadDir(filepath.Dir(file)); len(there) != 1 {
					t.Errorf("it left files behind: %v", there)
				}
			})
		}
	}
}

func TestRootFileSystemArchive(t *testing.T) {
	plain := archiveOf(t, member{name: "./bin/sh", content: "x"}, member{name: "./manifest.json", content: "{}"}, member{name: "./etc/os-release", link: "../usr/lib/os-release"})
	for _, compression := range []string{"none", "gzip", "zstd"} {
		a, err := OpenArchive(t.Context(), write(t, newLayer(t, compression, plain).sent), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if len(a.Image.Layers) != 1 || a.Image.Layers[0].DiffID != sum(plain).String() {
			t.Errorf("the image is %+v", a.Image)
		}
		if err := readLayers(a.Image); err != nil {
			t.Error(err)
		}
	}
}

// What is remembered of an archive is bounded, and an image is found behind it all.
func TestAnArchiveOfManyAndLongNames(t *testing.T) {
	img := newImage(t, v1.Config{}, newLayer(t, "gzip", tarOf(t, "a", nil)))
	members := []member{{name: strings.Repeat("n", 100_000)}, {name: "link", link: strings.Repeat("l", 100_000)}}
	for i := range maxParts + 100 {
		members = append(members, member{name: fmt.Sprintf("f%d", i)})
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	members = slices.Insert(members, 2, member{name: "c", content: string(config)}, member{name: "layer", content: "x"})
	members = append(members, member{name: "manifest.json", content: `[{"Config":"c","Layers":["layer"]}]`})
	a, err := OpenArchive(t.Context(), write(t, archiveOf(t, members...)), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if len(a.parts) > maxParts+len(indexes) {
		t.Errorf("%d files are remembered", len(a.parts))
	}
	for name, p := range a.parts {
		if len(name)+len(p.link) > 2*maxPartName {
			t.Errorf("a name of %d bytes is remembered", len(name)+len(p.link))
		}
	}
}

func TestArchivesThatAreNone(t *testing.T) {
	img := newImage(t, v1.Config{}, newLayer(t, "gzip", tarOf(t, "a", nil)))
	other := imageFor(t, v1.Platform{OS: "windows", Architecture: "amd64"}, v1.Config{}, newLayer(t, "gzip", tarOf(t, "a", nil)))
	saved := savedByDocker(t, img)
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	manifest := func(layers string) member {
		return member{name: "manifest.json", content: fmt.Sprintf(`[{"Config":"c","Layers":[%s]}]`, layers)}
	}
	c := member{name: "c", content: string(config)}
	digest := sum([]byte("x")).String()
	for _, x := range []struct {
		name    string
		content []byte
		kind    cube.Kind
		words   string
	}{
		{"nothing", nil, cube.Invalid, "empty"},
		{"no tar", bytes.Repeat([]byte("hello "), 1000), cube.Invalid, "this is no tar file"},
		{"zeros", make([]byte, 10<<10), cube.Invalid, "empty"},
		{"a compressed text", newLayer(t, "gzip", []byte("hello")).sent, cube.Invalid, "this is no tar file"},
		{"a broken gzip", newLayer(t, "gzip", saved).sent[:500], cube.Invalid, "damaged"},
		{"half", saved[:len(saved)-1500], cube.Invalid, "damaged"},
		{"a bomb", newLayer(t, "gzip", make([]byte, 8<<20)).sent, cube.TooLarge, "unpacks to more than 1 MiB"},
		{"a zip's insides", archiveOf(t, member{name: "README", content: "x"}), cube.Invalid, "no image and no root file system"},
		{"two images", archiveOf(t, member{name: "manifest.json", content: `[{"Config":"c"},{"Config":"d"}]`}), cube.Invalid, "holds 2 images"},
		{"another manifest.json", archiveOf(t, member{name: "manifest.json", content: `{}`}), cube.Invalid, "none of 'docker save'"},
		{"no configuration", archiveOf(t, manifest(`"a"`)), cube.Invalid, "has no c"},
		{"no layer", archiveOf(t, manifest(`"a"`), c), cube.Invalid, "has no layer a"},
		{"a link in circles", archiveOf(t, manifest(`"a"`), c, member{name: "a", link: "a"}), cube.Invalid, "has no layer a"},
		{"a link outside", archiveOf(t, manifest(`"a"`), c, member{name: "a", link: "../../../../etc/passwd"}), cube.Invalid, "has no layer a"},
		{"a layer outside", archiveOf(t, manifest(`"/etc/passwd"`), c), cube.Invalid, "has no layer /etc/passwd"},
		{"too many layers", archiveOf(t, manifest(`"a","a"`), c, member{name: "a"}), cube.Invalid, "its manifest has 2 layers and its configuration 1"},
		{"another machine's", savedByDocker(t, other), cube.Invalid, "only for windows/amd64"},
		{"a wrong digest", archiveOf(t, member{name: "oci-layout", content: "{}"},
			member{name: "index.json", content: fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"digest":%q,"size":1}]}`, digest)},
			member{name: "blobs/sha256/" + digest[7:], content: "y"}), cube.Invalid, "another digest"},
		{"two in a layout", laidOut(t, func(p layout.Path) error {
			if err := p.AppendImage(img); err != nil {
				return err
			}
			return p.AppendImage(other)
		}), cube.Invalid, "holds 2 images"},
	} {
		t.Run(x.name, func(t *testing.T) {
			file := write(t, x.content)
			a, err := OpenArchive(t.Context(), file, 1<<20)
			if err == nil {
				a.Close()
			}
			wantFailure(t, err, x.kind, x.words)
			if there, _ := os.ReadDir(filepath.Dir(file)); len(there) != 1 {
				t.Errorf("it left files behind: %v", there)
			}
		})
	}
	if _, err := OpenArchive(t.Context(), "/nonexistent/image.tar", 1); !os.IsNotExist(err) {
		t.Errorf("the error is %v; want %v", err, fs.ErrNotExist)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OpenArchive(gone, write(t, saved), 1<<20); err == nil {
		t.Error("it was opened for nobody")
	}
}

func FuzzArchive(f *testing.F) {
	f.Add(archiveOf(f, member{name: "manifest.json", content: `[{"Config":"c","Layers":["a"]}]`}, member{name: "c", content: "{}"}, member{name: "a", content: "x"}))
	f.Add(archiveOf(f, member{name: "etc/passwd", content: "x"}))
	f.Add(savedByDocker(f, newImage(f, v1.Config{}, newLayer(f, "gzip", tarOf(f, "a", nil)))))
	file := filepath.Join(f.TempDir(), "image.tar")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := OpenArchive(t.Context(), file, 1<<20)
		if err != nil {
			return
		}
		defer a.Close()
		readLayers(a.Image)
	})
}

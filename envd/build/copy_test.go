package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cube/envd/users"
)

// entry is one of an archive, or of a directory: what ends in a slash is a
// directory, what begins with "->" a link, with "=>" a hard link.
type entry struct{ name, content string }

func archive(t *testing.T, compress bool, entries ...entry) io.Reader {
	t.Helper()
	var out bytes.Buffer
	var to io.Writer = &out
	if compress {
		z := gzip.NewWriter(&out)
		defer z.Close()
		to = z
	}
	w := tar.NewWriter(to)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o640, Typeflag: tar.TypeReg, Size: int64(len(e.content)), ModTime: time.Unix(1_700_000_000, 0)}
		switch {
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o750, 0
		case strings.HasPrefix(e.content, "->"):
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.content[2:], 0
		case strings.HasPrefix(e.content, "=>"):
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, e.content[2:], 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, e.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if z, ok := to.(*gzip.Writer); ok {
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return bytes.NewReader(out.Bytes())
}

// fill makes what entries say below a directory.
func fill(t *testing.T, dir string, entries ...entry) {
	t.Helper()
	for _, e := range entries {
		path := filepath.Join(dir, e.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case strings.HasSuffix(e.name, "/"):
			err = os.MkdirAll(path, 0o755)
		case strings.HasPrefix(e.content, "->"):
			err = os.Symlink(strings.ReplaceAll(e.content[2:], "DIR", dir), path)
		default:
			err = os.WriteFile(path, []byte(e.content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// list tells what is below a directory, a line for each: its kind, mode and
// owner, and what it holds.
func list(t *testing.T, dir string) string {
	t.Helper()
	var lines strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		switch {
		case d.IsDir():
			fmt.Fprintf(&lines, "%s/ %v\n", name, info.Mode().Perm())
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&lines, "%s -> %s\n", name, strings.ReplaceAll(target, dir, "DIR"))
		default:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&lines, "%s %v %s\n", name, info.Mode().Perm(), content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines.String()
}

// own is whoever runs the tests.
func own() Owner { return Owner{os.Getuid(), os.Getgid()} }

func TestCopy(t *testing.T) {
	private := os.FileMode(0o700)
	for _, c := range []struct {
		name        string
		archive     []entry
		there       []entry
		source      string
		destination string // below the test's directory
		mode        *os.FileMode
		want        string
	}{
		{"a file under another name", []entry{{"a.txt", "A"}}, nil, "a.txt", "/b.txt", nil, "b.txt -rw-r----- A\n"},
		{"a file into a directory that is missing", []entry{{"a.txt", "A"}}, nil, "a.txt", "/new/", nil, "new/ -rwxr-xr-x\nnew/a.txt -rw-r----- A\n"},
		{"a file into a directory that is there", []entry{{"a.txt", "A"}}, []entry{{"d/", ""}}, "a.txt", "/d", nil, "d/ -rwxr-xr-x\nd/a.txt -rw-r----- A\n"},
		{"a file deep down", []entry{{"x/y/a.txt", "A"}}, nil, "x/y/a.txt", "/p/q/b", nil, "p/ -rwxr-xr-x\np/q/ -rwxr-xr-x\np/q/b -rw-r----- A\n"},
		{"a file with a mode", []entry{{"a", "A"}}, nil, "./a", "/b", &private, "b -rwx------ A\n"},
		{"a link", []entry{{"l", "->../else"}}, nil, "l", "/here/", nil, "here/ -rwxr-xr-x\nhere/l -> ../else\n"},
		{"a link under another name", []entry{{"l", "->a"}}, nil, "l", "/m", nil, "m -> a\n"},
		{"a directory's content", []entry{{"d/", ""}, {"d/a", "A"}, {"d/e/", ""}, {"d/e/b", "B"}, {"d/l", "->a"}}, nil, "d", "/t", nil,
			"t/ -rwxr-xr-x\nt/a -rw-r----- A\nt/e/ -rwxr-x---\nt/e/b -rw-r----- B\nt/l -> a\n"},
		{"what a pattern matched, without the directory's own entry", []entry{{"d/a", "A"}, {"d/b", "B"}}, nil, "d/", "/t", nil,
			"t/ -rwxr-xr-x\nt/a -rw-r----- A\nt/b -rw-r----- B\n"},
		{"all", []entry{{"./", ""}, {"./a", "A"}, {".hidden/b", "B"}}, nil, ".", "/t/", nil,
			"t/ -rwxr-xr-x\nt/.hidden/ -rwxr-xr-x\nt/.hidden/b -rw-r----- B\nt/a -rw-r----- A\n"},
		{"only what the source names", []entry{{"d/a", "A"}, {"dd/b", "B"}, {"c", "C"}}, nil, "d", "/t", nil, "t/ -rwxr-xr-x\nt/a -rw-r----- A\n"},
		{"a directory with a mode", []entry{{"d/", ""}, {"d/e/", ""}, {"d/e/a", "A"}}, nil, "d", "/t", &private, "t/ -rwx------\nt/e/ -rwx------\nt/e/a -rwx------ A\n"},
		{"merged: files are replaced, directories stay as they are", []entry{{"d/e/", ""}, {"d/e/a", "new"}, {"d/f", "F"}}, []entry{{"t/e/a", "old"}, {"t/e/keep", "K"}, {"t/f", "->e/keep"}}, "d", "/t", nil,
			"t/ -rwxr-xr-x\nt/e/ -rwxr-xr-x\nt/e/a -rw-r----- new\nt/e/keep -rw-r--r-- K\nt/f -rw-r----- F\n"},
		{"merged: links to directories are followed", []entry{{"d/lib/", ""}, {"d/lib/a", "A"}}, []entry{{"t/usr/lib/", ""}, {"t/lib", "->usr/lib"}}, "d", "/t", nil,
			"t/ -rwxr-xr-x\nt/lib -> usr/lib\nt/usr/ -rwxr-xr-x\nt/usr/lib/ -rwxr-xr-x\nt/usr/lib/a -rw-r----- A\n"},
		{"a link in the place of a file", []entry{{"d/a", "->b"}}, []entry{{"t/a", "old"}}, "d", "/t", nil, "t/ -rwxr-xr-x\nt/a -> b\n"},
		{"a hard link", []entry{{"d/a", "A"}, {"d/b", "=>d/a"}}, nil, "d", "/t", nil, "t/ -rwxr-xr-x\nt/a -rw-r----- A\nt/b -rw-r----- A\n"},
		{"names that lead out stay inside", []entry{{"../../a", "A"}, {"/b", "B"}}, nil, "", "/t", nil, "t/ -rwxr-xr-x\nt/a -rw-r----- A\nt/b -rw-r----- B\n"},
	} {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, compressed %v", c.name, compress), func(t *testing.T) {
				dir := t.TempDir()
				fill(t, dir, c.there...)
				copying := Copy{Source: c.source, Destination: dir + c.destination, Owner: own(), Mode: c.mode}
				if _, err := copying.From(archive(t, compress, c.archive...)); err != nil {
					t.Fatal(err)
				}
				if got := list(t, dir); got != c.want {
					t.Errorf("there is\n%swant\n%s", got, c.want)
				}
			})
		}
	}
}

func TestCopyKeepsTimes(t *testing.T) {
	dir := t.TempDir()
	if _, err := (Copy{Source: "a", Destination: dir + "/b", Owner: own()}).From(archive(t, true, entry{"a", "A"})); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir + "/b")
	if err != nil || info.ModTime().Unix() != 1_700_000_000 {
		t.Errorf("%v, %v", info.ModTime(), err)
	}
}

func TestCopyGivesAllThatIsNewToItsOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	dir := t.TempDir()
	fill(t, dir, entry{"there/", ""})
	copying := Copy{Source: "d", Destination: dir + "/there/new", Owner: Owner{1234, 2345}}
	if _, err := copying.From(archive(t, true, entry{"d/e/a", "A"}, entry{"d/l", "->e"})); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Owner{
		"there": own(), "there/new": {1234, 2345}, "there/new/e": {1234, 2345}, "there/new/e/a": {1234, 2345}, "there/new/l": {1234, 2345},
	} {
		if got := ownerOf(t, filepath.Join(dir, path)); got != want {
			t.Errorf("%s belongs to %v, want %v", path, got, want)
		}
	}
}

func TestCopyTellsMistakes(t *testing.T) {
	for _, c := range []struct {
		name        string
		archive     func(*testing.T) io.Reader
		source      string
		destination string
		want        string
	}{
		{"nothing of that name", func(t *testing.T) io.Reader { return archive(t, true, entry{"a", "A"}) }, "b", "/t", "source path does not exist: b"},
		{"an empty archive", func(t *testing.T) io.Reader { return archive(t, true) }, ".", "/t", "source path does not exist: ."},
		{"no archive", func(*testing.T) io.Reader { return strings.NewReader(strings.Repeat("no tar file ", 100)) }, ".", "/t", "the uploaded archive cannot be read"},
		{"broken off", func(t *testing.T) io.Reader {
			whole, err := io.ReadAll(archive(t, true, entry{"a", strings.Repeat("A", 9999)}))
			if err != nil {
				t.Fatal(err)
			}
			return bytes.NewReader(whole[:len(whole)/2])
		}, "a", "/t", "the uploaded archive cannot be read: unexpected EOF"},
		{"a file over a directory", func(t *testing.T) io.Reader { return archive(t, true, entry{"d/dir", "A"}) }, "d", "/", "is a directory: it cannot be replaced by a file"},
		{"a directory over a file", func(t *testing.T) io.Reader { return archive(t, true, entry{"d/file/a", "A"}) }, "d", "/", "is no directory"},
		{"below a file", func(t *testing.T) io.Reader { return archive(t, true, entry{"a", "A"}) }, "a", "/file/b", "is no directory"},
		{"a hard link to what is not copied", func(t *testing.T) io.Reader { return archive(t, true, entry{"b", "B"}, entry{"d/a", "=>b"}) }, "d", "/t", "d/a is a hard link to b, which is not copied"},
		{"a device", func(t *testing.T) io.Reader {
			var out bytes.Buffer
			w := tar.NewWriter(&out)
			if err := w.WriteHeader(&tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}); err != nil {
				t.Fatal(err)
			}
			return &out
		}, "null", "/t", "null is neither a file, a directory nor a symbolic link"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, entry{"dir/", ""}, entry{"file", "F"})
			_, err := Copy{Source: c.source, Destination: dir + c.destination, Owner: own()}.From(c.archive(t))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestModes(t *testing.T) {
	for s, want := range map[string]os.FileMode{"0644": 0o644, "755": 0o755, "04755": os.ModeSetuid | 0o755, "1777": os.ModeSticky | 0o777, "0": 0} {
		if mode, err := ParseMode(s); err != nil || *mode != want {
			t.Errorf("%s: %v, %v", s, mode, err)
		}
	}
	for _, s := range []string{"u+x", "888", "-1", "77777", "0x1"} {
		if _, err := ParseMode(s); err == nil || !strings.Contains(err.Error(), "octal") {
			t.Errorf("%s: %v", s, err)
		}
	}
	if mode, err := ParseMode(""); err != nil || mode != nil {
		t.Errorf("none: %v, %v", mode, err)
	}
}

func TestOwners(t *testing.T) {
	for s, want := range map[string]Owner{"root": {0, 0}, "root:root": {0, 0}, "0:7": {0, 7}, "54321": {54321, 54321}, "54321:root": {54321, 0}} {
		if o, err := ParseOwner(s); err != nil || o != want {
			t.Errorf("%s: %v, %v", s, o, err)
		}
	}
	for s, want := range map[string]string{"nosuchuser": "invalid user: 'nosuchuser'", "root:nosuchgroup": "invalid group: 'root:nosuchgroup'", ":": "invalid user", "-1": "invalid user"} {
		if _, err := ParseOwner(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestPlaces(t *testing.T) {
	u := users.User{Home: "/home/user"}
	for _, c := range []struct{ destination, workdir, want string }{
		{"/app", "", "/app"}, {"/app/", "/x", "/app/"}, {"app", "", "/home/user/app"}, {"app/", "/srv", "/srv/app/"},
		{".", "", "/home/user/"}, {".", "/srv", "/srv/"}, {"./", "/srv", "/srv/"}, {"..", "/srv/a", "/srv/"}, {"/", "", "/"}, {"~/a", "/srv", "/home/user/a"}, {"/a/../b/.", "", "/b/"},
	} {
		if got := Place(c.destination, c.workdir, u); got != c.want {
			t.Errorf("%q in %q is %q, want %q", c.destination, c.workdir, got, c.want)
		}
	}
}

func FuzzCopyStaysBelowItsDestination(f *testing.F) {
	f.Add("../../etc/passwd", "x", byte(tar.TypeReg), "")
	f.Add("d/../../a", "d", byte(tar.TypeDir), "")
	f.Fuzz(func(t *testing.T, name, source string, kind byte, link string) {
		dir := t.TempDir()
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		if w.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Linkname: link, Mode: 0o755}) != nil || kind == tar.TypeSymlink {
			t.Skip()
		}
		_, _ = Copy{Source: source, Destination: filepath.Join(dir, "below") + "/", Owner: own()}.From(&out)
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "below" {
			t.Errorf("%q of %q made %v, %v", name, source, entries, err)
		}
	})
}

package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// entry is one of a tar file's.
type entry struct {
	tar.Header
	content string
}

func dir(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}
func file(name, content string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content: content}
}
func symlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}
func hardlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}}
}
func device(name string, major, minor int64) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Devmajor: major, Devminor: minor}}
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// needRoot skips where owners and whiteouts cannot be made.
func needRoot(t testing.TB) {
	if os.Geteuid() != 0 {
		t.Skip("unpacking layers needs root")
	}
}

func unpack(t *testing.T, limits Limits, entries ...entry) (string, error) {
	t.Helper()
	needRoot(t)
	into := filepath.Join(t.TempDir(), "layer")
	if err := os.Mkdir(into, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Unpack(bytes.NewReader(archive(t, entries...)), into, "", limits)
	return into, err
}

func TestALayerIsUnpackedAsItWas(t *testing.T) {
	when := time.Unix(1_000_000_000, 0)
	program := file("usr/bin/su", "program")
	program.Mode, program.Uid, program.Gid, program.ModTime = 0o4755, 7, 8, when
	program.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "x", "SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.security.selinux": "y"}
	tmp := dir("tmp/")
	tmp.Mode, tmp.ModTime = 0o1777, when
	top := dir("./")
	top.Mode = 0o750
	into, err := unpack(t, Limits{}, top, tmp, program, file("tmp/x", "1"), symlink("lib", "usr/lib"), symlink("abs", "/etc/passwd"),
		hardlink("usr/bin/sudo", "/usr/bin/su"), file("deep/er/est", "2"), file("lib/x", "through a link"), dir("usr/lib"),
		entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}})
	// "lib/x" comes before the directory that its parent leads to.
	if err == nil || !strings.Contains(err.Error(), "no directory") {
		t.Fatalf("a file below a link to nothing: %v", err)
	}
	into, err = unpack(t, Limits{}, top, tmp, program, file("tmp/x", "1"), dir("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/etc/passwd"),
		hardlink("usr/bin/sudo", "/usr/bin/su"), file("deep/er/est", "2"), file("lib/x", "through a link"),
		entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}})
	if err != nil {
		t.Fatal(err)
	}
	stat := func(name string) (fs.FileInfo, *syscall.Stat_t) {
		info, err := os.Lstat(filepath.Join(into, name))
		if err != nil {
			t.Fatal(err)
		}
		return info, info.Sys().(*syscall.Stat_t)
	}
	info, owner := stat("usr/bin/su")
	if info.Mode() != fs.ModeSetuid|0o755 || owner.Uid != 7 || owner.Gid != 8 || !info.ModTime().Equal(when) || owner.Nlink != 2 {
		t.Errorf("usr/bin/su is %v of %d:%d, %v, with %d names", info.Mode(), owner.Uid, owner.Gid, info.ModTime(), owner.Nlink)
	}
	if info, _ := stat("tmp"); info.Mode() != fs.ModeDir|fs.ModeSticky|0o777 || !info.ModTime().Equal(when) {
		t.Errorf("tmp is %v, %v", info.Mode(), info.ModTime())
	}
	if info, _ := stat("."); info.Mode().Perm() != 0o750 {
		t.Errorf("the root is %v", info.Mode())
	}
	if info, _ := stat("pipe"); info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("pipe is %v", info.Mode())
	}
	if content, err := os.ReadFile(filepath.Join(into, "usr/lib/x")); string(content) != "through a link" {
		t.Errorf("lib/x: %q %v", content, err)
	}
	if target, err := os.Readlink(filepath.Join(into, "abs")); target != "/etc/passwd" {
		t.Errorf("abs leads to %q %v", target, err)
	}
	buffer := make([]byte, 256)
	n, err := unix.Listxattr(filepath.Join(into, "usr/bin/su"), buffer)
	if names := string(buffer[:max(n, 0)]); err != nil || names != "user.note\x00" {
		t.Errorf("the attributes are %q %v", names, err)
	}
}

func TestDeletionsAreMarkedForOverlayfs(t *testing.T) {
	into, err := unpack(t, Limits{}, file("etc/.wh.gone", ""), dir("new"), file("new/.wh..wh..opq", ""), file("x/.wh..wh.plnk", ""),
		file("both", "1"), file(".wh.both", ""), device("of-gvisor", 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etc/gone", "both", "of-gvisor"} {
		info, err := os.Lstat(filepath.Join(into, name))
		if err != nil || info.Mode()&fs.ModeCharDevice == 0 || info.Sys().(*syscall.Stat_t).Rdev != 0 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	value := make([]byte, 8)
	if n, err := unix.Getxattr(filepath.Join(into, "new"), opaque, value); err != nil || string(value[:n]) != "y" {
		t.Errorf("new is not opaque: %q %v", value, err)
	}
	if left, _ := os.ReadDir(filepath.Join(into, "x")); len(left) != 0 {
		t.Errorf("aufs's own files are there: %v", left)
	}
}

func TestWhatIsNamedTwiceIsTheLast(t *testing.T) {
	into, err := unpack(t, Limits{}, file("a", "1"), file("a", "2"), dir("b"), file("b/c", "3"), file("b", "4"),
		file("c", "5"), dir("c"), file("c/d", "6"), symlink("s", "c"), dir("s"), file("s/e", "7"), hardlink("a2", "a"), hardlink("a2", "a"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "2", "b": "4", "c/d": "6", "s/e": "7", "a2": "2"} {
		if content, err := os.ReadFile(filepath.Join(into, name)); string(content) != want {
			t.Errorf("%s holds %q, not %q: %v", name, content, want, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(into, "c/e")); err == nil {
		t.Error("s/e went through the link that a directory has replaced")
	}
}

// TestPathsThroughLinks: those of the same layer are followed, and of others
// nothing is known.
func TestPathsThroughLinks(t *testing.T) {
	needRoot(t)
	for _, target := range []string{"usr/lib", "/usr/lib", "../../usr/lib"} {
		to := t.TempDir()
		if _, err := Unpack(bytes.NewReader(archive(t, dir("usr/"), dir("usr/lib/"), symlink("lib", target), file("lib/a/b", "x"))), to, "", Limits{}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(to, "usr/lib/a/b")); err != nil || string(got) != "x" {
			t.Errorf("through a link to %s: the file is %q, %v", target, got, err)
		}
	}
	to := t.TempDir()
	if _, err := Unpack(bytes.NewReader(archive(t, file("lib/a", "x"))), to, "", Limits{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(filepath.Join(to, "lib")); err != nil || !info.IsDir() {
		t.Errorf("what another layer may have as a link is %v, %v; want a directory", info, err)
	}
	if _, err := Unpack(bytes.NewReader(archive(t, symlink("lib", "usr/lib"), file("lib/a", "x"))), t.TempDir(), "", Limits{}); err == nil {
		t.Error("a path through a link that leads nowhere was unpacked")
	}
}

func TestNothingGetsOutOfALayer(t *testing.T) {
	needRoot(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 30)
	for name, entries := range map[string][]entry{
		"a name that climbs":            {file("../../escaped", "x")},
		"a name that climbs inside":     {file("a/../../escaped", "x")},
		"a name from the root":          {file(outside+"/escaped", "x")},
		"a link from the root":          {symlink("d", outside), file("d/escaped", "x")},
		"a link that climbs":            {symlink("d", up+outside), file("d/escaped", "x")},
		"a link to a link":              {symlink("d", "e"), symlink("e", outside), file("d/escaped", "x")},
		"a link under a file's name":    {symlink("escaped", filepath.Join(outside, "escaped")), file("escaped", "x")},
		"a hard link outside":           {hardlink("h", secret), file("h", "overwritten")},
		"a hard link that climbs":       {hardlink("h", up+secret)},
		"a hard link through a link":    {symlink("d", outside), hardlink("h", "d/secret"), file("h", "overwritten")},
		"a directory over a link":       {symlink("d", outside), dir("d"), file("d/escaped", "x")},
		"a deletion through a link":     {symlink("d", outside), file("d/.wh.secret", "")},
		"a deletion that climbs":        {file("a/.wh...", ""), file("a/.wh..", ""), file("a/.wh.", "")},
		"attributes through a link":     {symlink("d", outside), file("d/.wh..wh..opq", "")},
		"a mode through a link":         {symlink("secret", secret), entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "secret", Mode: 0o777}}},
		"the server's own open files":   {symlink("p", "/proc/self/fd"), file("p/0", "x")},
		"a link in place of the parent": {dir("d"), file("d/a", "1"), symlink("d", outside), file("d/escaped", "x")},
	} {
		t.Run(name, func(t *testing.T) {
			into, err := unpack(t, Limits{}, entries...)
			if err != nil {
				if _, theirs := errors.AsType[*Error](err); !theirs {
					t.Errorf("the error does not say that it is the layer's: %v", err)
				}
			}
			found, err := os.ReadDir(outside)
			if err != nil || len(found) != 1 {
				t.Errorf("outside there is %v %v", found, err)
			}
			if content, err := os.ReadFile(secret); string(content) != "secret" {
				t.Errorf("the secret is %q %v", content, err)
			}
			if info, err := os.Stat(secret); err != nil || info.Mode() != 0o600 {
				t.Errorf("the secret's mode is %v %v", info, err)
			}
			_ = filepath.WalkDir(into, func(path string, entry fs.DirEntry, err error) error {
				if entry.Type().IsRegular() {
					if content, _ := os.ReadFile(path); string(content) == "secret" {
						t.Errorf("%s is the secret", path)
					}
				}
				return nil
			})
		})
	}
}

func TestLayersThatCannotBeAreRefused(t *testing.T) {
	long := strings.Repeat("n", 300)
	many := make([]entry, 12)
	for i := range many {
		many[i] = file(strings.Repeat("x", i+1), "")
	}
	nobody := file("x", "")
	nobody.Uid = -2
	big := file("x", strings.Repeat("x", 1025))
	for name, c := range map[string]struct {
		entries []entry
		says    string
	}{
		"a device":              {[]entry{device("disk", 8, 0)}, "device"},
		"a long name":           {[]entry{file(long, "")}, "longer than the 255"},
		"a long path":           {[]entry{file(strings.Repeat("d/", 3000)+"x", "")}, "longer than the 4095"},
		"too many files":        {many, "more than 10 files"},
		"too many bytes":        {[]entry{big}, "more than 1024 bytes"},
		"a link to nothing":     {[]entry{hardlink("a", "b")}, "not in its layer"},
		"a link to itself":      {[]entry{file("a", ""), hardlink("a", "a")}, "itself"},
		"a link to a directory": {[]entry{dir("d"), hardlink("a", "d")}, "is a directory"},
		"a file with files":     {[]entry{file("a", ""), file("a/b", "")}, "no directory"},
		"links in a circle":     {[]entry{symlink("a", "b"), symlink("b", "a"), file("a/x", "")}, "no directory"},
		"an owner that is none": {[]entry{nobody}, "nobody that there can be"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unpack(t, Limits{Bytes: 1024, Entries: 10}, c.entries...)
			if _, theirs := errors.AsType[*Error](err); !theirs || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := unpack(t, Limits{}, device("dev/null", 1, 3)); err != nil {
		t.Errorf("a device below /dev: %v", err)
	}
}

func TestALayerIsWhatItsImageSays(t *testing.T) {
	needRoot(t)
	data := archive(t, file("a", "1"))
	data = append(data, make([]byte, 10240)...) // padding counts
	sum := sha256.Sum256(data)
	id := "sha256:" + hex.EncodeToString(sum[:])
	if _, err := Unpack(bytes.NewReader(data), t.TempDir(), id, Limits{}); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]byte{"another": archive(t, file("a", "2")), "cut": data[:700], "cut in the head": data[:100], "padded": append(data[:len(data):len(data)], 0)} {
		_, err := Unpack(bytes.NewReader(bad), t.TempDir(), id, Limits{})
		if _, theirs := errors.AsType[*Error](err); !theirs {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestZerosTakeNoRoom(t *testing.T) {
	content := strings.Repeat("\x00", 4<<20) + "end" + strings.Repeat("\x00", 1<<20)
	into, err := unpack(t, Limits{}, file("sparse", content))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(into, "sparse"))
	if err != nil || string(got) != content {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	info, _ := os.Stat(filepath.Join(into, "sparse"))
	if blocks := info.Sys().(*syscall.Stat_t).Blocks * 512; blocks > 1<<20 {
		t.Errorf("it takes %d bytes", blocks)
	}
}

// FuzzUnpack looks for a layer that gets out, or that the unpacker breaks on.
func FuzzUnpack(f *testing.F) {
	needRoot(f)
	f.Add(archive(f, dir("a"), file("a/b", "1"), symlink("l", "/etc"), file("l/x", "2"), hardlink("h", "a/b"), file("a/.wh.b", "")))
	f.Add(archive(f, device("x", 0, 0), device("dev/y", 1, 2), file(".wh..wh..opq", "")))
	f.Fuzz(func(t *testing.T, data []byte) {
		above := t.TempDir()
		into := filepath.Join(above, "layer")
		if err := os.Mkdir(into, 0o755); err != nil {
			t.Fatal(err)
		}
		_, _ = Unpack(bytes.NewReader(data), into, "", Limits{Bytes: 1 << 20, Entries: 100})
		if found, _ := os.ReadDir(above); len(found) != 1 {
			t.Errorf("outside there is %v", found)
		}
		if err := os.RemoveAll(into); err != nil {
			t.Error(err)
		}
	})
}

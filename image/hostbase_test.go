package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func makeBase(t *testing.T, imagesDir string) Root {
	t.Helper()
	root, err := MakeHostBase(imagesDir, []byte("the agent"), "/opt/cube/envd")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestTheBaseHasAUserAndTheAgent(t *testing.T) {
	root := makeBase(t, t.TempDir())
	agent, err := os.Stat(filepath.Join(root.Dir, "opt/cube/envd"))
	if err != nil || agent.Mode().Perm() != 0o755 {
		t.Errorf("the agent: %v, %v", agent, err)
	}
	passwd, err := os.ReadFile(filepath.Join(root.Dir, "etc/passwd"))
	if err != nil || !strings.Contains(string(passwd), "\nuser:x:1000:1000:user:/home/user:/bin/bash\n") {
		t.Errorf("/etc/passwd: %v\n%s", err, passwd)
	}
	tmp, err := os.Stat(filepath.Join(root.Dir, "tmp"))
	if err != nil || tmp.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("/tmp: %v, %v", tmp.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(root.Dir, "bin/sh")); os.IsNotExist(err) {
		// The link is there; what it leads to is bound when a sandbox starts.
		if target, err := os.Readlink(filepath.Join(root.Dir, "bin")); err != nil || target != "usr/bin" {
			t.Errorf("/bin leads to %q, %v", target, err)
		}
	}
}

func TestTheBaseHasNothingOfTheHostsPeople(t *testing.T) {
	root := makeBase(t, t.TempDir())
	for _, dir := range []string{"root", "srv", "mnt", "media", "boot", "run"} {
		if entries, err := os.ReadDir(filepath.Join(root.Dir, dir)); err != nil || len(entries) > 0 {
			t.Errorf("/%s holds %v, %v", dir, entries, err)
		}
	}
	for _, secret := range []string{"etc/ssh", "etc/ssl/private", "etc/gshadow", "etc/machine-id", "etc/gitconfig", "etc/environment", "var/lib/dpkg"} {
		if _, err := os.Lstat(filepath.Join(root.Dir, secret)); err == nil {
			t.Errorf("/%s is there", secret)
		}
	}
	shadow, err := os.ReadFile(filepath.Join(root.Dir, "etc/shadow"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(shadow)) {
		if fields := strings.Split(line, ":"); fields[1] != "*" {
			t.Errorf("/etc/shadow has a password's hash for %s", fields[0])
		}
	}
	for _, bind := range root.Binds {
		if bind.Source != "/usr" && !slices.Contains([]string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}, bind.Source) {
			t.Errorf("the host's %s is bound", bind.Source)
		}
	}
}

func TestTheBaseIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	first, second := makeBase(t, dir), makeBase(t, dir)
	if first.Dir != second.Dir {
		t.Errorf("made twice, as %s and %s", first.Dir, second.Dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the images' directory: %v, %v", entries, err)
	}
	other, err := MakeHostBase(dir, []byte("another agent"), "/opt/cube/envd")
	if err != nil || other.Dir == first.Dir {
		t.Errorf("another agent gives %s, %v", other.Dir, err)
	}
	if err := RemoveHostBases(dir, func(d string) bool { return d == other.Dir }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(first.Dir); !os.IsNotExist(err) {
		t.Errorf("a base that nobody uses is still there: %v", err)
	}
	if _, err := os.Stat(other.Dir); err != nil {
		t.Errorf("the base in use: %v", err)
	}
}

func TestWhatNotEverybodyMayReadIsMasked(t *testing.T) {
	dir := t.TempDir()
	for path, mode := range map[string]fs.FileMode{
		"share/public": 0o644, "share/secret": 0o600, "sbin/setuid": 0o4755, "sbin/closed": 0o4750, "private/inner": 0o644, "link": 0,
	} {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if mode == 0 {
			if err := os.Symlink("/etc/shadow", full); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(full, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(full, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := privatePaths(Bind{Source: dir, Target: "usr"})
	want := []string{"usr/private", "usr/sbin/closed", "usr/share/secret"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("masked %v, %v; want %v", got, err, want)
	}
}

package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyProgramsThatSandboxesSeeCount(t *testing.T) {
	root := t.TempDir()
	for name, mode := range map[string]fs.FileMode{
		"usr/bin/tool": 0o755, "usr/bin/private": 0o700, "usr/bin/data": 0o644, "root/.pyenv/python3": 0o755, "usr/lib/node/bin/node": 0o755,
	} {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"usr/bin/python3": "root/.pyenv/python3", "usr/bin/node": "usr/lib/node/bin/node", "usr/bin/loose": "usr/bin/nothing",
	} {
		if err := os.Symlink(filepath.Join(root, target), filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"tool": "/usr/bin/tool", "node": "/usr/bin/node", "private": "", "data": "", "python3": "", "loose": "", "absent": "", "../../root/.pyenv/python3": "",
	} {
		if got, found := hostProgram(root, name); got != want || found != (want != "") {
			t.Errorf("%s is found at %q", name, got)
		}
	}
}

func TestTheBaseHasWhatPeopleType(t *testing.T) {
	root := makeBase(t, t.TempDir())
	sudo, err := os.Lstat(filepath.Join(root.Dir, binDir, "sudo"))
	if has := err == nil; has == HostProgram("sudo") || has && (sudo.Mode() != fs.ModeSetuid|0o755) {
		t.Errorf("a stand-in for sudo: %v, %v", sudo, err)
	}
	for _, link := range [][2]string{{"python", "python3"}, {"pip", "pip3"}} {
		target, err := os.Readlink(filepath.Join(root.Dir, binDir, link[0]))
		want, needed := hostProgram("/", link[1])
		needed = needed && !HostProgram(link[0])
		if (err == nil) != needed || needed && target != want {
			t.Errorf("%s leads to %q, %v; want %q", link[0], target, err, want)
		}
	}
	sudoers, err := os.ReadFile(filepath.Join(root.Dir, "etc/sudoers"))
	if err != nil || !strings.Contains(string(sudoers), `secure_path="`+Path+`"`) {
		t.Errorf("sudo would not find them: %v\n%s", err, sudoers)
	}
	if code, err := os.Stat(filepath.Join(root.Dir, "code")); err != nil || code.Mode().Perm() != 0o777 {
		t.Errorf("/code: %v, %v", code, err)
	}
}

func TestTheBaseTellsNothingOfTheMachinesPlace(t *testing.T) {
	root := makeBase(t, t.TempDir())
	if zone, err := os.Readlink(filepath.Join(root.Dir, "etc/localtime")); err != nil || zone != "/usr/share/zoneinfo/Etc/UTC" {
		t.Errorf("the clock is that of %q, %v", zone, err)
	}
}

func TestWhatIsMissingIsNamedWithItsPackage(t *testing.T) {
	for _, m := range MissingPrograms() {
		if HostProgram(m.Name) || m.Package == "" {
			t.Errorf("%+v", m)
		}
	}
}

// TestNobodyOfTheMachinesOwnReachesABase is for the stand-in for sudo, which makes
// whoever runs it root: outside of sandboxes nobody may.
func TestNobodyOfTheMachinesOwnReachesABase(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o711); err != nil { // as an earlier version left it
		t.Fatal(err)
	}
	makeBase(t, dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the images are open to others: %v, %v", info.Mode(), err)
	}
}

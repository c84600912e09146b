package users

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestResolve(t *testing.T) {
	u := User{Home: "/home/user"}
	for _, c := range []struct{ path, workdir, want string }{
		{"", "", "/home/user"},
		{"~", "", "/home/user"},
		{"~/a", "/srv", "/home/user/a"},
		{"a/b", "", "/home/user/a/b"},
		{"a/b", "/srv", "/srv/a/b"},
		{"", "/srv", "/srv"},
		{"a", "~/things", "/home/user/things/a"},
		{"a", "things", "/home/user/things/a"},
		{"/a/../b/", "/srv", "/b"},
		{"../../../a", "", "/a"},
		{"~other/a", "", "/home/user/~other/a"},
	} {
		if got := u.Resolve(c.path, c.workdir); got != c.want {
			t.Errorf("%q in %q is %q, want %q", c.path, c.workdir, got, c.want)
		}
	}
}

func FuzzWhatIsResolvedIsAbsoluteAndClean(f *testing.F) {
	f.Add("~/../..", "", "/home/user")
	f.Add("//a/./b", "x", "/")
	f.Fuzz(func(t *testing.T, path, workdir, home string) {
		u := User{Home: filepath.Join("/", home)}
		got := u.Resolve(path, workdir)
		if !filepath.IsAbs(got) || got != filepath.Clean(got) {
			t.Errorf("%q in %q of %q is %q", path, workdir, home, got)
		}
	})
}

func TestLookup(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	u, err := Lookup(me.Username)
	if err != nil {
		t.Fatal(err)
	}
	if u.Name != me.Username || u.Home != me.HomeDir || int(u.UID) != os.Getuid() || int(u.GID) != os.Getgid() {
		t.Errorf("%s is %+v", me.Username, u)
	}
	for _, name := range []string{"", "nosuchuser", "root\nroot", "0"} {
		_, err := Lookup(name)
		if e, ok := errors.AsType[ErrUnknown](err); !ok || !strings.Contains(e.Error(), name) {
			t.Errorf("%q is answered with %v", name, err)
		}
	}
}

func TestNamesAreNumbersWhereThereAreNone(t *testing.T) {
	var n Names
	for range 2 { // the second time from memory
		if owner, group := n.Owner(0), n.Group(0); owner != "root" || group != "root" {
			t.Errorf("0 is %q and %q", owner, group)
		}
		if owner, group := n.Owner(4294967294), n.Group(4294967294); owner != "4294967294" || group != "4294967294" {
			t.Errorf("nobody's number is %q and %q", owner, group)
		}
	}
}

func TestMakeDirsStopsAtWhatIsNoDirectory(t *testing.T) {
	dir := t.TempDir()
	u := User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	file, loose := filepath.Join(dir, "file"), filepath.Join(dir, "loose")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nothing", loose); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		filepath.Join(dir, "a", "b"):  nil,
		dir:                           nil,
		file:                          syscall.ENOTDIR,
		filepath.Join(file, "a"):      syscall.ENOTDIR,
		loose:                         fs.ErrNotExist,
		filepath.Join(loose, "below"): fs.ErrNotExist,
	} {
		if err := u.MakeDirs(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

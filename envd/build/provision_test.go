package build

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func ownerOf(t *testing.T, path string) Owner {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return Owner{int(stat.Uid), int(stat.Gid)}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func provisioned(t *testing.T, root string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	agent := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(agent, []byte("the agent"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Provision(root, agent); err != nil {
		t.Fatal(err)
	}
}

func TestAnEmptyImageGetsAUser(t *testing.T) {
	root := t.TempDir()
	provisioned(t, root)
	for file, want := range map[string]string{
		"etc/passwd":            "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home/user:/bin/bash\n",
		"etc/group":             "root:x:0:\nuser:x:1000:\nsudo:x:27:user\n",
		"etc/sudoers.d/90-user": "user ALL=(ALL:ALL) NOPASSWD: ALL\n",
		"opt/cube/bin/sudo":     "the agent",
	} {
		if got := read(t, filepath.Join(root, file)); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	if got := ownerOf(t, root+"/home/user"); got != (Owner{1000, 1000}) {
		t.Errorf("the home belongs to %v", got)
	}
	if info, err := os.Stat(root + "/opt/cube/bin/sudo"); err != nil || info.Mode() != fs.ModeSetuid|0o755 {
		t.Errorf("the stand-in for sudo: %v, %v", info.Mode(), err)
	}
	if target, err := os.Readlink(root + "/usr/bin/sudo"); err != nil || target != "/opt/cube/bin/sudo" {
		t.Errorf("sudo leads to %q, %v", target, err)
	}
	if _, err := os.Lstat(root + "/bin/bash"); err == nil {
		t.Error("an image without any shell has one now")
	}
	if info, err := os.Stat(root + "/tmp"); err != nil || info.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("/tmp: %v, %v", info.Mode(), err)
	}
	before := list(t, root)
	provisioned(t, root)
	if after := list(t, root); after != before {
		t.Errorf("doing it again changes it to\n%sfrom\n%s", after, before)
	}
}

func TestWhatAnImageHasStays(t *testing.T) {
	root := t.TempDir()
	fill(t, root,
		entry{"etc/passwd", "root:x:0:0:root:/root:/bin/ash\nnode:x:1000:1000::/home/node:/bin/bash"},
		entry{"etc/group", "root:x:0:\nnode:x:1000:\nsudo:x:30:node\nodd\n"},
		entry{"etc/gshadow", "root:*::\n"},
		entry{"etc/shadow", "root:*:::::::\n"},
		entry{"etc/sudoers", "root ALL=(ALL:ALL) ALL\n"},
		entry{"etc/hosts", "127.0.0.1 here\n"},
		entry{"etc/skel/.profile", "P"}, entry{"etc/skel/.config/a", "A"}, entry{"etc/skel/l", "->.profile"},
		entry{"home/user/.profile", "mine"},
		entry{"usr/local/lib/a", "A"}, entry{"usr/bin/sudo", "real"}, entry{"bin/sh", "shell"},
	)
	if err := os.Chmod(root+"/usr/bin/sudo", 0o4755); err != nil {
		t.Fatal(err)
	}
	provisioned(t, root)
	for file, want := range map[string]string{
		"etc/passwd":               "root:x:0:0:root:/root:/bin/ash\nnode:x:1000:1000::/home/node:/bin/bash\nuser:x:1001:1001::/home/user:/bin/bash\n",
		"etc/group":                "root:x:0:\nnode:x:1000:\nsudo:x:30:node,user\nodd\nuser:x:1001:\n",
		"etc/gshadow":              "root:*::\nuser:!::\n",
		"etc/sudoers":              "root ALL=(ALL:ALL) ALL\n\nuser ALL=(ALL:ALL) NOPASSWD: ALL\n",
		"etc/hosts":                "127.0.0.1 here\n",
		"home/user/.profile":       "mine",
		"home/user/.config/a":      "A",
		"usr/bin/sudo":             "real",
		"bin/bash":                 shell,
		"etc/profile.d/00-cube.sh": profile,
	} {
		if got := read(t, filepath.Join(root, file)); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	for _, path := range []string{"home/user", "home/user/.config", "home/user/.config/a", "home/user/l"} {
		if got := ownerOf(t, filepath.Join(root, path)); got != (Owner{1001, 1001}) {
			t.Errorf("%s belongs to %v", path, got)
		}
	}
	if info, err := os.Stat(root + "/usr/local/lib"); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("/usr/local/lib: %v, %v", info.Mode(), err)
	}
}

func TestAUserOfTheImagesOwnStays(t *testing.T) {
	root := t.TempDir()
	fill(t, root, entry{"etc/passwd", "user:x:500:600::/home/user:/bin/sh\n"})
	provisioned(t, root)
	if got := read(t, root+"/etc/passwd"); got != "user:x:500:600::/home/user:/bin/sh\nroot:x:0:0:root:/root:/bin/bash\n" {
		t.Errorf("/etc/passwd is %q", got)
	}
	if got := ownerOf(t, root+"/home/user"); got != (Owner{500, 600}) {
		t.Errorf("the home belongs to %v", got)
	}
}

func TestUserMakesAnAccount(t *testing.T) {
	root := t.TempDir()
	provisioned(t, root)
	if err := User(root, "app_1", true); err != nil {
		t.Fatal(err)
	}
	if got := read(t, root+"/etc/passwd"); !strings.HasSuffix(got, "\napp_1:x:1001:1001::/home/app_1:/bin/bash\n") {
		t.Errorf("/etc/passwd is %q", got)
	}
	if got := read(t, root+"/etc/sudoers.d/90-app_1"); got != "app_1 ALL=(ALL:ALL) NOPASSWD: ALL\n" {
		t.Errorf("its rule is %q", got)
	}
	before := list(t, root)
	if err := User(root, "app_1", false); err != nil || list(t, root) != before {
		t.Errorf("an account that is there was made again: %v", err)
	}
	for name, want := range map[string]string{
		"": "invalid user name ''", "Upper": "invalid user name", "a b": "invalid user name", "a\nroot": "invalid user name", "../x": "invalid user name",
		"app:app": "without a group", "1000": "invalid user name", strings.Repeat("a", 33): "invalid user name",
	} {
		if err := User(root, name, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestFilesOfAccountsThatAreNoneAreRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	for _, c := range []struct {
		there entry
		want  string
	}{
		{entry{"etc/passwd/", ""}, "is no file of at most"},
		{entry{"etc/passwd", "user:x:many:1::/home/user:/bin/sh\n"}, "the numbers of user cannot be read"},
		{entry{"etc/group", "->/dev/zero"}, "is no file of at most"},
	} {
		root := t.TempDir()
		fill(t, root, c.there)
		if err := Provision(root, os.Args[0]); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.there, err, c.want)
		}
	}
}

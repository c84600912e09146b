package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cube/engine/gvisor/launch"
)

// apart runs f in a mount namespace of its own, which ends with it.
func apart(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// plant makes files below a directory: "name: content", "name/" for a directory,
// "name!" for one that hides what is below, "-name" for a deletion, "name -> target"
// for a link.
func plant(t *testing.T, entries ...string) string {
	t.Helper()
	dir := t.TempDir()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range entries {
		at := func(name string) string {
			full := filepath.Join(dir, name)
			do(os.MkdirAll(filepath.Dir(full), 0o755))
			return full
		}
		if name, content, ok := strings.Cut(e, ": "); ok {
			do(os.WriteFile(at(name), []byte(content), 0o644))
		} else if name, target, ok := strings.Cut(e, " -> "); ok {
			do(os.Symlink(target, at(name)))
		} else if name, ok := strings.CutPrefix(e, "-"); ok {
			do(unix.Mknod(at(name), unix.S_IFCHR, 0))
		} else if name, ok := strings.CutSuffix(e, "!"); ok {
			do(os.MkdirAll(at(name), 0o755))
			do(unix.Setxattr(at(name), "trusted.overlay.opaque", []byte("y"), 0))
		} else {
			do(os.MkdirAll(at(e), 0o755))
		}
	}
	return dir
}

// files lists what is below a directory, as plant takes it.
func files(dir string) []string {
	var list []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, dir+"/")
		switch {
		case err != nil:
			list = append(list, name+": "+err.Error())
		case entry.Type().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				content = []byte(err.Error())
			}
			list = append(list, name+": "+string(content))
		case entry.Type()&os.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			list = append(list, name+" -> "+target)
		case entry.IsDir() && path != dir:
			if inside, _ := os.ReadDir(path); len(inside) == 0 {
				list = append(list, name)
			}
		case !entry.IsDir():
			list = append(list, name+": "+entry.Type().String())
		}
		return nil
	})
	if err != nil {
		list = append(list, err.Error())
	}
	return list
}

func TestARootIsItsLayersAsOne(t *testing.T) {
	host := []string{"bin/sh: host", "bin/env: host", "lib/a/x: host", "lib/b/y: host", "share/priv/secret: host", "share/shadow: host"}
	for name, c := range map[string]struct {
		base   []string
		layers [][]string
		bound  bool // host is bound at usr
		masked []string
		top    bool
		want   []string
	}{
		"without layers": {
			base: []string{"etc/hosts: base", "usr"}, bound: true, masked: []string{"usr/share/priv", "usr/share/shadow"},
			want: []string{"etc/hosts: base", "usr/bin/env: host", "usr/bin/sh: host", "usr/lib/a/x: host", "usr/lib/b/y: host", "usr/share/priv", "usr/share/shadow: "},
		},
		"a layer that does not touch the host's part": {
			base: []string{"etc/hosts: base", "usr"}, bound: true, masked: []string{"usr/share/priv", "usr/share/shadow"}, layers: [][]string{{"etc/hosts: layer"}},
			want: []string{"etc/hosts: layer", "usr/bin/env: host", "usr/bin/sh: host", "usr/lib/a/x: host", "usr/lib/b/y: host", "usr/share/priv", "usr/share/shadow: "},
		},
		"files added, changed and deleted in the host's part, by several layers": {
			base: []string{"usr"}, bound: true, masked: []string{"usr/share/priv", "usr/share/shadow"},
			layers: [][]string{{"-usr/bin/env", "usr/lib/a!", "usr/lib/a/z: 1", "usr/lib/b/y: 1"}, {"srv/x: 2", "-usr/lib/b/y", "usr/lib/b/w: 2"}, {"usr/lib/b/v: 3"}},
			want:   []string{"srv/x: 2", "usr/bin/sh: host", "usr/lib/a/z: 1", "usr/lib/b/v: 3", "usr/lib/b/w: 2", "usr/share/priv", "usr/share/shadow: "},
		},
		"what is private stays private, and what layers put there is theirs": {
			base: []string{"usr"}, bound: true, masked: []string{"usr/share/priv", "usr/share/shadow"},
			layers: [][]string{{"-usr/bin", "-usr/lib", "usr/share/priv/own: 1", "usr/share/priv/gone: 1", "usr/share/shadow: 1"}, {"usr/share/priv/more: 2", "-usr/share/priv/gone"}},
			want:   []string{"usr/share/priv/more: 2", "usr/share/priv/own: 1", "usr/share/shadow: 1"},
		},
		"a private directory that was replaced": {
			base: []string{"usr"}, bound: true, masked: []string{"usr/share/priv", "usr/share/shadow"},
			layers: [][]string{{"-usr/bin", "-usr/lib", "usr/share/priv/own: 1"}, {"usr/share/priv!", "usr/share/priv/new: 2", "-usr/share/shadow"}},
			want:   []string{"usr/share/priv/new: 2"},
		},
		"a layer's link in the way of what is private leads nowhere outside": {
			base: []string{"usr"}, bound: true, masked: []string{"usr/share/priv", "usr/share/shadow"},
			layers: [][]string{{"-usr/bin", "-usr/lib", "usr/share -> OUTSIDE"}},
			want:   []string{"usr/share -> OUTSIDE"},
		},
		"the host's part as a whole replaced": {
			base: []string{"usr"}, bound: true, masked: []string{"usr/share/priv"}, layers: [][]string{{"usr/bin/old: 1"}, {"usr!", "usr/bin/sh: 2"}},
			want: []string{"usr/bin/sh: 2"},
		},
		"an image below what is ours": {
			base: []string{"etc/hosts: top", "opt/cube/envd: top"}, top: true, layers: [][]string{{"etc/hosts: 1", "etc/passwd: 1", "bin/sh: 1", "opt -> /bin"}, {"-bin/sh", "bin/busybox: 2"}},
			want: []string{"bin/busybox: 2", "etc/hosts: top", "etc/passwd: 1", "opt/cube/envd: top"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			outside := plant(t, "priv/kept: outside", "shadow: outside")
			root := launch.Root{Dir: plant(t, c.base...), Masked: c.masked, Top: c.top}
			if c.bound {
				root.Binds = []launch.Bind{{Source: plant(t, host...), Target: "usr"}}
			}
			var want []string
			for _, w := range c.want {
				want = append(want, strings.ReplaceAll(w, "OUTSIDE", outside))
			}
			for _, layer := range c.layers {
				for i := range layer {
					layer[i] = strings.ReplaceAll(layer[i], "OUTSIDE", outside)
				}
				root.Layers = append(root.Layers, plant(t, layer...))
			}
			apart(t, func() {
				if err := mountRoot(root); err != nil {
					t.Error(err)
				}
				if got := files(root.Dir); !slices.Equal(got, want) {
					t.Errorf("the root is\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				if got := files(outside); !slices.Equal(got, []string{"priv/kept: outside", "shadow: outside"}) {
					t.Errorf("outside there is %q", got)
				}
			})
		})
	}
}

func TestWhatIsBoundCannotBecomeSomethingElse(t *testing.T) {
	for _, layer := range []string{"usr -> /etc", "-usr", "usr: file"} {
		root := launch.Root{Dir: plant(t, "usr"), Binds: []launch.Bind{{Source: plant(t, "x: host"), Target: "usr"}}, Layers: []string{plant(t, layer)}}
		apart(t, func() {
			if err := mountRoot(root); err == nil || !strings.Contains(err.Error(), "this machine's own") {
				t.Errorf("%s: %v", layer, err)
			}
		})
	}
}

func TestMoreLayersThanAnyImageHas(t *testing.T) {
	var parts, want []string
	for i := range 200 {
		name := fmt.Sprintf("%03d: %d", i, i)
		parts = append(parts, plant(t, name, fmt.Sprintf("last: %d", i)))
		want = append(want, name)
	}
	want = append(want, "last: 199")
	for name, mount := range map[string]func(string, []string) error{"one by one": overlayByParts, "as a list": overlayByList} {
		target := t.TempDir()
		apart(t, func() {
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
				t.Error(err)
			}
			if err := mount(target, parts); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got := files(target); !slices.Equal(got, want) {
				t.Errorf("%s: the root is %q", name, got)
			}
		})
	}
}

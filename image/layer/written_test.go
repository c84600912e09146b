package layer

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// kept is a file whose content is elsewhere.
func kept(t *testing.T, name string, size int64, parts ...Part) entry {
	t.Helper()
	list, err := json.Marshal(File{Size: size, Parts: parts})
	if err != nil {
		t.Fatal(err)
	}
	return file(name, string(list))
}

func unpackWritten(t *testing.T, store string, limits Limits, entries ...entry) (string, Size, error) {
	t.Helper()
	needRoot(t)
	into := t.TempDir()
	size, err := UnpackWritten(bytes.NewReader(archive(t, entries...)), into, limits, func(_ *tar.Header, entry io.Reader) (File, error) {
		f := File{}
		err := json.NewDecoder(entry).Decode(&f)
		f.From = strings.NewReader(store)
		return f, err
	})
	return into, size, err
}

func TestWhatASandboxHasWrittenIsFoundInItsStore(t *testing.T) {
	into, size, err := unpackWritten(t, "0123456789", Limits{Bytes: 10},
		kept(t, "a", 5, Part{Size: 3, From: 7}),
		kept(t, "d/holes", 1<<40, Part{At: 1 << 30, Size: 4, From: 1}),
		kept(t, "empty", 0),
		kept(t, "zeros", 1<<20),
		device("disk", 8, 0), // makes no sense to keep, and the rest does
		device("gone", 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if size.Bytes != 7 {
		t.Errorf("it counts as %d bytes", size.Bytes)
	}
	if content, err := os.ReadFile(filepath.Join(into, "a")); string(content) != "789\x00\x00" {
		t.Errorf("a is %q, %v", content, err)
	}
	holes, err := os.Open(filepath.Join(into, "d/holes"))
	if err != nil {
		t.Fatal(err)
	}
	defer holes.Close()
	part := make([]byte, 6)
	_, err = holes.ReadAt(part, 1<<30-1)
	info, _ := holes.Stat()
	if string(part) != "\x001234\x00" || err != nil || info.Size() != 1<<40 || info.Sys().(*syscall.Stat_t).Blocks > 1024 {
		t.Errorf("the file with holes has %q, %v, %+v", part, err, info.Sys())
	}
	if _, err := os.Lstat(filepath.Join(into, "disk")); err == nil {
		t.Error("a device is in the layer")
	}
	if info, err := os.Lstat(filepath.Join(into, "gone")); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("the deletion is %v, %v", info, err)
	}
}

func TestContentsThatCannotBeAreRefused(t *testing.T) {
	for name, f := range map[string]File{
		"less than nothing":       {Size: -1},
		"a part after the end":    {Size: 5, Parts: []Part{{At: 3, Size: 3}}},
		"a part before the start": {Size: 5, Parts: []Part{{At: -1, Size: 3}}},
		"a part of less":          {Size: 5, Parts: []Part{{At: 3, Size: -3}}},
		"a part from before":      {Size: 5, Parts: []Part{{Size: 3, From: -1}}},
		"parts that overlap":      {Size: 9, Parts: []Part{{Size: 3}, {At: 2, Size: 3}}},
		"parts out of order":      {Size: 9, Parts: []Part{{At: 4, Size: 3}, {At: 0, Size: 3}}},
		"more than may be":        {Size: 99, Parts: []Part{{Size: 8}, {At: 20, Size: 8}}},
		"a part beyond the store": {Size: 99, Parts: []Part{{Size: 8, From: 5}}},
		"a part beyond numbers":   {Size: 9, Parts: []Part{{Size: 8, From: 1<<63 - 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := unpackWritten(t, "0123456789", Limits{Bytes: 10}, kept(t, "a", f.Size, f.Parts...))
			if _, theirs := errors.AsType[*Error](err); !theirs {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestDeletionsAreNotListed mounts a layer whose deletions are of nothing.
func TestDeletionsAreNotListed(t *testing.T) {
	into, err := unpack(t, Limits{}, file("d/.wh.x", ""), file("d/y", "1"), dir("o"), file("o/.wh..wh..opq", ""), file("o/.wh.z", ""), file("o/a", "2"))
	if err != nil {
		t.Fatal(err)
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Skip("this kernel has no overlayfs")
	}
	defer func() { _ = unix.Close(fs) }()
	for _, dir := range []string{into, t.TempDir()} {
		if err := unix.FsconfigSetString(fs, "lowerdir+", dir); err != nil {
			t.Skip("this kernel takes its layers otherwise")
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(mount) }() // which ends the mount: it has no place
	for name, want := range map[string][]string{"d": {"y"}, "o": {"a"}} {
		fd, err := unix.Openat(mount, name, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		opened := os.NewFile(uintptr(fd), name)
		got, err := opened.Readdirnames(-1)
		_ = opened.Close()
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s holds %q, %v, not %q", name, got, err, want)
		}
	}
}

func TestNamesAreBounded(t *testing.T) {
	needRoot(t)
	// Each entry makes a thousand directories.
	var deep []entry
	for i := range 8 {
		deep = append(deep, file(string(rune('a'+i))+strings.Repeat("/d", 1000)+"/f", ""))
	}
	if _, err := unpack(t, Limits{Entries: 5000}, deep...); err == nil || !strings.Contains(err.Error(), "more than 5000 files") {
		t.Errorf("directories that no entry names: %v", err)
	}
}

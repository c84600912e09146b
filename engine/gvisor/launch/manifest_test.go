package launch

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestManifestIsReadAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	want := Manifest{
		Memory: true, GVisor: "v1", Arch: "amd64", CPU: []string{"sse", "avx"},
		Root:      Root{Dir: "base-1", Binds: []Bind{{Source: "/usr", Target: "usr"}}, Masked: []string{"usr/secret"}},
		Resources: Resources{CPUs: 1, MemoryMB: 2, DiskMB: 3, Pids: 4},
		Files:     []File{{Name: "pages.img", Size: 10, Sum: 7}, {Name: "x", Size: 5, Sum: 9}},
	}
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Bytes() != 15 || got.Root.Binds[0] != want.Root.Binds[0] || got.Resources != want.Resources || got.Files[0] != want.Files[0] {
		t.Errorf("read %+v, wrote %+v", got, want)
	}
	path := filepath.Join(dir, ManifestFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		changed := append([]byte(nil), whole...)
		changed[at] ^= 1
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := ReadManifest(dir); err == nil {
			t.Errorf("with byte %d changed it reads as %+v", at, m)
		}
	}
}

func TestAMachineThatCannotGoOnIsRefused(t *testing.T) {
	kept := Manifest{Memory: true, GVisor: "v1", Arch: runtime.GOARCH, CPU: []string{"sse", "avx"}}
	files := kept
	files.Memory = false
	elsewhere := kept
	elsewhere.Arch = "riscv64"
	for name, test := range map[string]struct {
		manifest Manifest
		version  string
		features []string
		want     string // within the error; "" for none
	}{
		"the same machine":            {kept, "v1", []string{"sse", "avx"}, ""},
		"a better processor":          {kept, "v1", []string{"sse", "avx", "avx512f"}, ""},
		"another gVisor":              {kept, "v2", []string{"sse", "avx"}, "kept by gVisor v1, and this server has v2"},
		"a lesser processor":          {kept, "v1", []string{"sse"}, "lacks (avx)"},
		"another architecture":        {elsewhere, "v1", []string{"sse", "avx"}, "kept on riscv64"},
		"files alone, whatever it is": {files, "v2", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.manifest.CheckMachine(test.version, test.features)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestDamagedFilesAreFound(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pages.img")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("whole")
	size, sum, err := Checksum(path)
	if err != nil || size != 5 {
		t.Fatalf("%d bytes, %v", size, err)
	}
	m := Manifest{Files: []File{{Name: "pages.img", Size: size, Sum: sum}}}
	all := func(File) bool { return true }
	for content, want := range map[string]struct{ size, sum bool }{
		"whole": {true, true}, "whale": {true, false}, "who": {false, false}, "": {false, false},
	} {
		write(content)
		if err := m.CheckSizes(dir); (err == nil) != want.size {
			t.Errorf("%q: sizes %v", content, err)
		}
		if err := m.CheckSums(dir, all); (err == nil) != want.sum {
			t.Errorf("%q: sums %v", content, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := m.CheckSizes(dir); err == nil {
		t.Error("a missing file is not missed")
	}
}

package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cube"
	"cube/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) cube.Store {
		return open(t, filepath.Join(t.TempDir(), "cube.db"))
	})
}

func TestTemplateStore(t *testing.T) {
	storetest.RunTemplates(t, func(t *testing.T) cube.TemplateStore {
		return open(t, filepath.Join(t.TempDir(), "cube.db"))
	})
}

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func running(id cube.SandboxID) cube.Sandbox {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return cube.Sandbox{ID: id, Template: "base", State: cube.Running, StartedAt: now, EndAt: now, HostKey: "secret"}
}

func TestRowsAreThereAfterAReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cube.db")
	want := running(cube.NewSandboxID())
	first := open(t, path)
	if err := first.CreateSandbox(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	// The first is not closed: a server that was killed does not close either.
	got, err := open(t, path).Sandbox(t.Context(), want.ID)
	if err != nil || got.HostKey != want.HostKey {
		t.Errorf("read %+v, %v; want %+v", got, err, want)
	}
}

func TestFilesAreReadableByTheirOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cube.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if err := s.CreateSandbox(t.Context(), running(cube.NewSandboxID()), nil); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("files = %v, %v; want the database, -wal and -shm", files, err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o, want 600", f.Name(), mode)
		}
	}
}

func TestPathMayHoldWhatAnAddressMayNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c=d#e%20é", "cube.db")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if err := s.CreateSandbox(t.Context(), running(cube.NewSandboxID()), nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		t.Errorf("the rows are not in %s: %v, %v", path, info, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, test := range []struct {
		name, want string
		prepare    func(t *testing.T, path string)
	}{
		{"a database of a newer version", "newer version", func(t *testing.T, path string) {
			s := open(t, path)
			if _, err := s.write.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)`); err != nil {
				t.Fatal(err)
			}
		}},
		{"what is no database", "not a database", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("something else\n", 100)), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"a directory", "is a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cube.db")
			test.prepare(t, path)
			s, err := Open(t.Context(), path)
			if err == nil {
				_ = s.Close()
				t.Fatal("opened it")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %q, want one about %q", err, test.want)
			}
		})
	}
}

// BenchmarkCreate measures the two writes that a create waits for.
func BenchmarkCreate(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "cube.db"))
	for b.Loop() {
		sandbox := running(cube.NewSandboxID())
		sandbox.State = cube.Starting
		if err := s.CreateSandbox(b.Context(), sandbox, nil); err != nil {
			b.Fatal(err)
		}
		sandbox.State = cube.Running
		if err := s.UpdateSandbox(b.Context(), cube.Starting, sandbox); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkListOfAThousand measures a page of those with a metadata filter.
func BenchmarkListOfAThousand(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "cube.db"))
	for i := range 1000 {
		sandbox := running(cube.NewSandboxID())
		sandbox.Metadata = map[string]string{"owner": "ada", "job": fmt.Sprint(i % 10)}
		if err := s.CreateSandbox(b.Context(), sandbox, nil); err != nil {
			b.Fatal(err)
		}
	}
	q := cube.SandboxQuery{States: []cube.State{cube.Running}, Metadata: map[string]string{"job": "7"}, Limit: 100}
	for b.Loop() {
		if list, _, err := s.ListSandboxes(b.Context(), q); err != nil || len(list) != 100 {
			b.Fatalf("%d rows, %v", len(list), err)
		}
	}
}

func TestManyMayOpenANewDatabaseAtOnce(t *testing.T) {
	for range 5 {
		path := filepath.Join(t.TempDir(), "cube.db")
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				s, err := Open(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
}

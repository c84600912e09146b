package chunks

import (
	"bytes"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testKeys(t testing.TB, lines ...string) Keys {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

const (
	keyA = "1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f"
	keyB = "Li4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4=" // base64
)

func memory(seed uint64, pages int) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, pages*pageSize)
	for i := range data {
		if i%256 < 128 { // the rest can be compressed
			data[i] = byte(random.Uint32())
		}
	}
	return data
}

func openStore(t testing.TB, dir string, keys Keys, lists ...List) *Store {
	t.Helper()
	s, err := Open(dir, keys, lists, true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pack(t testing.TB, s *Store, data []byte) List {
	t.Helper()
	f, err := s.Pack("f", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return List{Files: []File{f}}
}

func chunkFiles(t testing.TB, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func wantContent(t testing.TB, s *Store, l List, want []byte) {
	t.Helper()
	var got bytes.Buffer
	if err := s.Unpack(l.Files[0], &got); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("unpacked are %d bytes, %v, want the %d that were packed", got.Len(), err, len(want))
	}
}

func TestWhatIsPackedComesBack(t *testing.T) {
	for name, keys := range map[string]Keys{"plain": nil, "sealed": testKeys(t, "# first", keyA, "", keyB)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir, keys)
			for _, data := range [][]byte{nil, []byte("x"), memory(1, 1), memory(2, 1000), make([]byte, 3*maxChunk), memory(3, 9)[:33333]} {
				l := pack(t, s, data)
				wantContent(t, s, l, data)
				path := filepath.Join(t.TempDir(), "list")
				if err := s.WriteList(path, "id", l); err != nil {
					t.Fatal(err)
				}
				read, err := ReadList(path, "id", keys)
				if err != nil {
					t.Fatal(err)
				}
				wantContent(t, s, read, data)
				if _, err := ReadList(path, "other", keys); len(keys) > 0 && err == nil {
					t.Error("a list is taken for another's")
				}
				s.Release(l)
			}
			if got := s.Stats(); got != (Stats{}) || len(chunkFiles(t, dir)) > 0 {
				t.Errorf("left are %+v and %v", got, chunkFiles(t, dir))
			}
		})
	}
}

func TestWhatIsTheSameIsThereOnce(t *testing.T) {
	s := openStore(t, t.TempDir(), nil)
	data := memory(1, 2000)
	first := pack(t, s, data)
	one := s.Stats().Disk
	if one > int64(len(data))*3/4 {
		t.Errorf("%d bytes take %d", len(data), one)
	}
	// A page put in at the start, another changed in the middle.
	changed := append(memory(9, 1), data...)
	changed[len(changed)/2] ^= 1
	second := pack(t, s, changed)
	if grown := s.Stats().Disk - one; grown > 3*maxChunk {
		t.Errorf("what is almost the same takes %d bytes more", grown)
	}
	s.Release(first)
	wantContent(t, s, second, changed)
}

func TestWhatNoListNamesIsSwept(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, nil)
	kept, lost := pack(t, s, memory(1, 100)), pack(t, s, memory(2, 100))
	all := len(chunkFiles(t, dir))
	if _, err := Open(dir, nil, []List{kept}, false); err != nil || len(chunkFiles(t, dir)) != all {
		t.Errorf("not all lists are known, and %d of %d files are left, %v", len(chunkFiles(t, dir)), all, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "half.new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, nil, kept)
	if n := len(chunkFiles(t, dir)); n != len(kept.Files[0].Chunks) {
		t.Errorf("%d files are left, want %d", n, len(kept.Files[0].Chunks))
	}
	wantContent(t, s, kept, memory(1, 100))
	if err := s.Unpack(lost.Files[0], io.Discard); err == nil {
		t.Error("what was swept is unpacked")
	}
}

func TestDamageIsSeen(t *testing.T) {
	for name, keys := range map[string]Keys{"plain": nil, "sealed": testKeys(t, keyA)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir, keys)
			l := pack(t, s, memory(1, 8))
			path := chunkFiles(t, dir)[0]
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for range 300 {
				broken := bytes.Clone(whole)
				broken[rand.IntN(len(broken))] ^= 1 << rand.IntN(8)
				var got bytes.Buffer
				if err := os.WriteFile(path, broken, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := s.Unpack(l.Files[0], &got); err == nil && !bytes.Equal(got.Bytes(), memory(1, 8)) {
					t.Fatal("something else is given out")
				}
			}
			// One that is cut is written anew by whoever has it.
			if err := os.Truncate(path, 10); err != nil {
				t.Fatal(err)
			}
			pack(t, s, memory(1, 8))
			wantContent(t, s, l, memory(1, 8))
		})
	}
}

func TestKeysAreCheckedBeforeAnythingIsDone(t *testing.T) {
	dir := t.TempDir()
	a, b, both := testKeys(t, keyA), testKeys(t, keyB), testKeys(t, keyB, keyA)
	for _, step := range []struct {
		name string
		keys Keys
		ok   bool
	}{
		{"no key", nil, true},
		{"the first", a, true},
		{"no key any more", nil, false},
		{"another", b, false},
		{"the first again", a, true},
		{"a new one before the old one", both, true},
		{"the old one alone", a, false},
		{"the new one alone", b, true},
	} {
		if err := CheckKeys(dir, step.keys); (err == nil) != step.ok {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}

func TestAKeyFileThatIsNone(t *testing.T) {
	for _, content := range []string{"", "# nothing", "abc", keyA[:62], keyA + "00", "swordfish"} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys(path); err == nil || content != "" && strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func FuzzPack(f *testing.F) {
	f.Add([]byte("abc"), uint16(0), false)
	f.Add(memory(1, 20), uint16(9000), true)
	keys := testKeys(f, keyA)
	f.Fuzz(func(t *testing.T, data []byte, repeat uint16, sealed bool) {
		data = bytes.Repeat(data, 1+int(repeat)%300)
		if len(data) > 4<<20 {
			return
		}
		s := openStore(t, t.TempDir(), nil)
		if sealed {
			s.keys = keys
		}
		l := pack(t, s, data)
		wantContent(t, s, l, data)
		s.Release(l)
		if got := s.Stats(); got != (Stats{}) {
			t.Errorf("left are %+v", got)
		}
	})
}

func FuzzDecode(f *testing.F) {
	keys := testKeys(f, keyA)
	f.Add(encode(nil, memory(1, 1), nil))
	f.Add(encode(keys, memory(1, 1), nil))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _, _ = decode(keys, data, nil)
		_, _ = decodeChunk(keys, data, Name{})
	})
}

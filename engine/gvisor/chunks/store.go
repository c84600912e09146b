// Package chunks keeps snapshots small and, with a key, secret: their files are
// cut into chunks, each of which is on the disk once however many snapshots have
// it, compressed where that makes it smaller, and encrypted.
//
// A snapshot's List names its chunks. A chunk is there before a list names it, and
// goes when none does any more; what a crash leaves between is swept by Open. It
// must never give out a chunk that is not, byte for byte, what was put in, and
// never write one unencrypted where there is a key.
package chunks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Store is a directory of chunks. Its methods may be called concurrently.
type Store struct {
	dir  string
	keys Keys

	mu    sync.Mutex // guards what follows, and the chunks' files
	refs  map[Name]*ref
	stats Stats
}

// ref is a chunk that is on the disk, or is just being written.
type ref struct {
	count int   // of the places that have it
	size  int64 // on the disk
}

// Stats is what a store holds.
type Stats struct {
	Plain  int64 // bytes that all snapshots in it have together
	Unique int64 // of these, what is there once
	Disk   int64 // bytes that it takes, compressed
	Chunks int
}

// List is a snapshot's files, as their chunks.
type List struct {
	Files []File
}

// File is one file.
type File struct {
	Name   string
	Chunks []Chunk
}

// Chunk is one chunk of a file.
type Chunk struct {
	Name Name
	Size int64 // of its content
}

// maxList bounds a list, in bytes: that of some 100 GiB.
const maxList = 256 << 20

const (
	checkFile = "key.check"
	checkText = "the key of these snapshots"
)

// Open opens the store in dir, or makes it. lists are the lists that are in use:
// what no list names is removed, unless whole is false, when not all could be
// read. A store that was encrypted with another key is an error.
func Open(dir string, keys Keys, lists []List, whole bool) (*Store, error) {
	s := &Store{dir: dir, keys: keys, refs: map[Name]*ref{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, l := range lists {
		l.each(func(c Chunk) {
			r := s.refs[c.Name]
			if r == nil {
				r = &ref{}
				s.refs[c.Name] = r
				s.stats.Unique += c.Size
			}
			r.count++
			s.stats.Plain += c.Size
		})
	}
	return s, s.look(whole)
}

// CheckKeys compares the keys with those that the store in dir was encrypted
// with, before anything is read or written with them.
func CheckKeys(dir string, keys Keys) error {
	path := filepath.Join(dir, checkFile)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(keys) == 0:
		return nil
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case len(keys) == 0:
		return errors.New("the snapshots are encrypted: start the server with the --snapshot-key-file that they were kept with")
	default:
		text, sealed, err := decode(keys, data, []byte(checkFile))
		if err != nil || string(text) != checkText {
			return errors.New("the snapshots are encrypted with a key that is not in --snapshot-key-file: give the file that they were kept with, or put that key back, on a line of its own below the first")
		}
		if sealed != nil && sealed.id == keys[0].id {
			return nil
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return writeWhole(path, encode(keys, []byte(checkText), []byte(checkFile)))
}

// look compares what is named with what is there.
func (s *Store) look(whole bool) error {
	return filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == checkFile {
			return err
		}
		var name Name
		if err := name.UnmarshalText([]byte(entry.Name())); err == nil {
			if r := s.refs[name]; r != nil {
				info, err := entry.Info()
				if err != nil {
					return err
				}
				r.size = info.Size()
				s.stats.Disk += r.size
				s.stats.Chunks++
				return nil
			}
		}
		if !whole {
			return nil
		}
		return os.Remove(path)
	})
}

func (s *Store) path(n Name) string {
	name := n.String()
	return filepath.Join(s.dir, name[:2], name)
}

// Stats returns what the store holds now.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Pack puts a file's content in. It is on the disk once Sync has returned. On an
// error nothing of it is left.
func (s *Store) Pack(name string, r io.Reader) (File, error) {
	f := File{Name: name}
	err := cut(r, func(plain []byte) error {
		c := Chunk{Name: s.keys.nameOf(plain), Size: int64(len(plain))}
		if err := s.put(c, plain); err != nil {
			return err
		}
		f.Chunks = append(f.Chunks, c)
		return nil
	})
	if err != nil {
		s.Release(List{Files: []File{f}})
		return File{}, err
	}
	return f, nil
}

// put writes a chunk unless it is there.
func (s *Store) put(c Chunk, plain []byte) error {
	if s.take(c) {
		return nil
	}
	data := encode(s.keys, plain, c.Name[:]) // beside others
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takeLocked(c) {
		return nil
	}
	path := s.path(c.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// Beside it first: another list may have it, and be read just now.
	err := os.WriteFile(path+".new", data, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	r := s.refs[c.Name]
	if r == nil {
		r = &ref{}
		s.refs[c.Name] = r
		s.stats.Chunks++
		s.stats.Unique += c.Size
	}
	s.stats.Disk += int64(len(data)) - r.size
	r.count, r.size = r.count+1, int64(len(data))
	s.stats.Plain += c.Size
	return nil
}

// Bytes is what the chunks of a list take on the disk, those that other lists
// have too included.
func (s *Store) Bytes(l List) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[Name]bool{}
	var bytes int64
	l.each(func(c Chunk) {
		if r := s.refs[c.Name]; r != nil && !seen[c.Name] {
			seen[c.Name] = true
			bytes += r.size
		}
	})
	return bytes
}

func (s *Store) take(c Chunk) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeLocked(c)
}

// takeLocked counts one more use of a chunk that is there as it was written, as
// far as its size tells: another is written anew, for all who have it.
func (s *Store) takeLocked(c Chunk) bool {
	r := s.refs[c.Name]
	if r == nil {
		return false
	}
	info, err := os.Stat(s.path(c.Name))
	if err != nil || info.Size() != r.size || r.size == 0 {
		return false
	}
	r.count++
	s.stats.Plain += c.Size
	return true
}

// Sync returns when all that was packed outlives the machine's power.
func (s *Store) Sync() error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
}

// Unpack writes a file's content. What is damaged is an error.
func (s *Store) Unpack(f File, w io.Writer) error {
	for _, c := range f.Chunks {
		data, err := os.ReadFile(s.path(c.Name))
		if err != nil {
			return fmt.Errorf("the snapshot is damaged: %w", err)
		}
		plain, err := decodeChunk(s.keys, data, c.Name)
		if err == nil && int64(len(plain)) != c.Size {
			err = errDamaged
		}
		if err != nil {
			return fmt.Errorf("the snapshot is damaged, in the chunk %s: %w", c.Name, err)
		}
		if _, err := w.Write(plain); err != nil {
			return err
		}
	}
	return nil
}

// Release says that a list is not in use any more. It must not be on the disk.
func (s *Store) Release(l List) {
	l.each(func(c Chunk) {
		s.mu.Lock()
		defer s.mu.Unlock()
		r := s.refs[c.Name]
		if r == nil {
			return
		}
		s.stats.Plain -= c.Size
		if r.count--; r.count > 0 {
			return
		}
		delete(s.refs, c.Name)
		s.stats.Unique -= c.Size
		s.stats.Disk -= r.size
		s.stats.Chunks--
		_ = os.Remove(s.path(c.Name)) // what stays is swept by Open
	})
}

// Size is how many bytes the files have.
func (l List) Size() (bytes int64) {
	l.each(func(c Chunk) { bytes += c.Size })
	return bytes
}

func (l List) each(do func(Chunk)) {
	for _, f := range l.Files {
		for _, c := range f.Chunks {
			do(c)
		}
	}
}

// WriteList writes a list that belongs to what id names: all of it or nothing,
// and for good.
func (s *Store) WriteList(path, id string, l List) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return writeWhole(path, encode(s.keys, data, []byte("list "+id)))
}

// ReadList reads what WriteList has written.
func ReadList(path, id string, keys Keys) (List, error) {
	var l List
	data, err := os.ReadFile(path)
	if err != nil {
		return l, err
	}
	plain, _, err := decode(keys, data, []byte("list "+id))
	if err != nil {
		return l, fmt.Errorf("the list of its chunks: %w", err)
	}
	if err := json.Unmarshal(plain, &l); err != nil {
		return l, errDamaged
	}
	return l, nil
}

// MissingKey tells whether err is that a key is not there.
func MissingKey(err error) bool { return errors.Is(err, errKey) }

// writeWhole writes a file that is there whole, or not at all, for good.
func writeWhole(path string, data []byte) error {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

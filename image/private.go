package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// privatePaths lists what below a bound directory not everybody may read, by
// its place in the root. Each start of the server looks through all of the host's
// /usr, so it does with few system calls, and on all processors.
func privatePaths(b Bind) ([]string, error) {
	var info unix.Stat_t
	if err := unix.Lstat(b.Source, &info); err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: b.Source, Err: err}
	}
	w := privateWalk{bind: b, helpers: make(chan struct{}, runtime.NumCPU()-1)}
	if private(info.Mode) {
		return []string{b.Target}, nil
	}
	w.walk(".")
	w.working.Wait()
	slices.Sort(w.found)
	return w.found, w.err
}

// privateWalk is one search of privatePaths.
type privateWalk struct {
	bind    Bind
	helpers chan struct{} // holds one for each goroutine beside the first
	working sync.WaitGroup

	mu    sync.Mutex // guards what follows
	found []string
	err   error
}

// walk looks through the directory at a path below the bind's, here or beside
// what is looked through already.
func (w *privateWalk) walk(path string) {
	if err := w.look(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // gone in the meantime
		w.mu.Lock()
		w.err = errors.Join(w.err, err)
		w.mu.Unlock()
	}
}

func (w *privateWalk) look(path string) error {
	dir, err := os.Open(filepath.Join(w.bind.Source, path))
	if err != nil {
		return err
	}
	entries, err := dir.ReadDir(-1)
	var found, below []string
	for _, entry := range entries {
		if !entry.IsDir() && !entry.Type().IsRegular() {
			continue
		}
		at := filepath.Join(path, entry.Name())
		var info unix.Stat_t
		switch e := unix.Fstatat(int(dir.Fd()), entry.Name(), &info, unix.AT_SYMLINK_NOFOLLOW); {
		case errors.Is(e, fs.ErrNotExist):
		case e != nil:
			err = errors.Join(err, &fs.PathError{Op: "lstat", Path: at, Err: e})
		case private(info.Mode):
			found = append(found, filepath.Join(w.bind.Target, at))
		case entry.IsDir():
			below = append(below, at)
		}
	}
	err = errors.Join(err, dir.Close())
	if len(found) > 0 {
		w.mu.Lock()
		w.found = append(w.found, found...)
		w.mu.Unlock()
	}
	for _, at := range below {
		select {
		case w.helpers <- struct{}{}:
			w.working.Go(func() {
				w.walk(at)
				<-w.helpers
			})
		default:
			w.walk(at)
		}
	}
	return err
}

// private tells whether not everybody may read a file, or look into a directory.
func private(mode uint32) bool {
	readable := uint32(0o004)
	if mode&unix.S_IFMT == unix.S_IFDIR {
		readable = 0o005
	}
	return mode&readable != readable
}

// Package watch tells what changes in a directory.
//
// Code inside a sandbox makes as many changes as it likes: the package must never
// hold more of them than its bounds, nor leave them to the kernel, whose queue
// has none under gVisor. It must never follow a link out of the directory.
package watch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// The bounds of one watch. A Budget bounds all together.
const (
	// MaxEvents are kept until somebody takes them.
	MaxEvents = 8192
	// MaxDirectories may be watched below one.
	MaxDirectories = 8192
	// maxAtOnce are given to somebody who waits, who may be slow to pass them on.
	maxAtOnce = 256
)

// Errors of a watch that cannot go on. What was seen before is still told.
var (
	ErrTooManyEvents      = errors.New("more changes came than anybody took: some are lost, so watch the directory anew, and list it")
	ErrTooManyDirectories = errors.New("there are too many directories to watch below this one: watch some of them, each by itself")
	ErrClosed             = errors.New("the watch has ended")
)

// Op is what happened to an entry.
type Op int

// What can happen.
const (
	Create Op = iota
	Write
	Remove
	Rename // it has another name now, which is told as Create if it is watched too
	Chmod
)

// Event is one change.
type Event struct {
	Name string // relative to the watched directory
	Op   Op
}

// Watch is one watched directory. Its methods may be called concurrently.
type Watch struct {
	dir       string
	recursive bool
	watcher   *fsnotify.Watcher
	budget    *Budget
	reading   sync.WaitGroup

	mu      sync.Mutex
	known   map[string]bool // directories that are watched, by path
	events  []Event
	failure error
	changed chan struct{} // closed and replaced when events or failure change
}

// New begins to watch a directory, and those in it if it is recursive. It spends
// of the budget until it is closed.
func New(dir string, recursive bool, budget *Budget) (*Watch, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &Watch{dir: dir, recursive: recursive, watcher: watcher, budget: budget, known: map[string]bool{}, changed: make(chan struct{})}
	if err := w.add(dir, false); err != nil {
		_ = watcher.Close()
		w.release()
		return nil, err
	}
	w.reading.Go(w.read)
	return w, nil
}

// Close ends the watch. Whoever waits for events gets ErrClosed.
func (w *Watch) Close() {
	_ = w.watcher.Close()
	w.reading.Wait()
	w.fail(ErrClosed)
	w.release()
}

// read takes what the kernel says as soon as it says it, until the watch cannot
// go on: then the kernel must keep no more for it.
func (w *Watch) read() {
	defer w.watcher.Close()
	for !w.hasFailed() {
		select {
		case event, open := <-w.watcher.Events:
			if !open {
				return
			}
			w.tell(event)
		case err, open := <-w.watcher.Errors:
			if !open {
				return
			}
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				err = ErrTooManyEvents
			}
			w.fail(err)
		}
	}
}

// ops are in the order in which one change that is several is told.
var ops = []struct {
	theirs fsnotify.Op
	ours   Op
}{{fsnotify.Create, Create}, {fsnotify.Write, Write}, {fsnotify.Remove, Remove}, {fsnotify.Rename, Rename}, {fsnotify.Chmod, Chmod}}

func (w *Watch) tell(event fsnotify.Event) {
	if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
		w.forget(event.Name)
	}
	name, err := filepath.Rel(w.dir, event.Name)
	if err != nil || name == "." {
		return // the directory itself
	}
	for _, op := range ops {
		if event.Has(op.theirs) {
			w.put(Event{name, op.ours})
		}
	}
	if !w.recursive || !event.Has(fsnotify.Create) {
		return
	}
	if info, err := os.Lstat(event.Name); err == nil && info.IsDir() {
		if err := w.add(event.Name, true); err != nil {
			w.fail(err)
		}
	}
}

// add watches a directory and, if the watch is recursive, those in it. What is in
// a new one came before it was watched, and is told now.
func (w *Watch) add(dir string, isNew bool) error {
	if err := w.watch(dir); err != nil {
		return err
	}
	if !w.recursive {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return nil //nolint:nilerr // it went away meanwhile, or is closed to us
		}
		if isNew {
			if name, err := filepath.Rel(w.dir, path); err == nil {
				w.put(Event{name, Create})
			}
		}
		if !entry.IsDir() {
			return nil
		}
		err = w.watch(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// watch has the kernel tell of one directory.
func (w *Watch) watch(dir string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known[dir] {
		return nil
	}
	if len(w.known) == MaxDirectories || !w.budget.directories.spend(1) {
		return ErrTooManyDirectories
	}
	if err := w.watcher.Add(dir); err != nil {
		w.budget.directories.give(1)
		return err
	}
	w.known[dir] = true
	return nil
}

// forget lets a directory of this name, and those in it, be watched anew: one
// that was moved is told by its new name from then on.
func (w *Watch) forget(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.known[dir] || dir == w.dir {
		return
	}
	for path := range w.known {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			delete(w.known, path)
			_ = w.watcher.Remove(path) // gone by itself if the directory is removed
		}
	}
}

package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for what must come; a busy machine needs some.
const patience = time.Minute

func mustWatch(t *testing.T, dir string, recursive bool) *Watch {
	t.Helper()
	w, err := New(dir, recursive, plenty())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// await takes events until all that are wanted came, in any order.
func await(t *testing.T, w *Watch, want ...Event) []Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []Event
	for {
		missing := slices.IndexFunc(want, func(e Event) bool { return !slices.Contains(got, e) })
		if missing < 0 {
			return got
		}
		events, err := w.Wait(ctx)
		if err != nil {
			t.Fatalf("%v is missing: %v, after %v", want[missing], err, got)
		}
		got = append(got, events...)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEachChangeIsTold(t *testing.T) {
	dir := t.TempDir()
	w := mustWatch(t, dir, false)
	file, other := filepath.Join(dir, "file"), filepath.Join(dir, "other")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	await(t, w, Event{"file", Create}, Event{"file", Write})
	must(t, os.Chmod(file, 0o640))
	await(t, w, Event{"file", Chmod})
	must(t, os.Rename(file, other))
	await(t, w, Event{"file", Rename}, Event{"other", Create})
	must(t, os.Remove(other))
	await(t, w, Event{"other", Remove})

	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	await(t, w, Event{"sub", Create})
	must(t, os.WriteFile(filepath.Join(dir, "sub", "inner"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "last"), nil, 0o600))
	if got := await(t, w, Event{"last", Create}); slices.ContainsFunc(got, func(e Event) bool { return e.Name == "sub/inner" }) {
		t.Errorf("a watch that is not recursive tells %v", got)
	}
}

func TestDirectoriesThatComeLaterAreWatchedToo(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	w := mustWatch(t, dir, true)
	must(t, os.WriteFile(filepath.Join(dir, "a", "b", "old"), nil, 0o600))
	await(t, w, Event{"a/b/old", Create})
	// What is in a new directory may be there before it is watched.
	for i := range 20 {
		name := fmt.Sprint("new", i)
		must(t, os.MkdirAll(filepath.Join(dir, name, "c", "d"), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name, "c", "d", "file"), []byte("x"), 0o600))
		await(t, w, Event{name, Create}, Event{name + "/c", Create}, Event{name + "/c/d", Create}, Event{name + "/c/d/file", Create})
	}
	must(t, os.Rename(filepath.Join(dir, "new0"), filepath.Join(dir, "moved")))
	await(t, w, Event{"new0", Rename}, Event{"moved", Create}, Event{"moved/c/d/file", Create})
	must(t, os.WriteFile(filepath.Join(dir, "moved", "c", "again"), nil, 0o600))
	await(t, w, Event{"moved/c/again", Create})
}

func TestLinksAreNotFollowed(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	w := mustWatch(t, dir, true)
	must(t, os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	if got := await(t, w, Event{"file", Create}); slices.ContainsFunc(got, func(e Event) bool { return filepath.Base(e.Name) == "secret" }) {
		t.Errorf("told of what is outside: %v", got)
	}
}

func TestWhatSaysTheSameIsToldOnce(t *testing.T) {
	w := &Watch{changed: make(chan struct{}), budget: plenty()}
	for range 3 * MaxEvents {
		w.put(Event{"hot", Write})
	}
	if events, err := w.Take(); len(events) != 1 || err != nil {
		t.Errorf("%d events, %v", len(events), err)
	}
}

func TestAWatchThatMissedSomethingSaysSo(t *testing.T) {
	dir := t.TempDir()
	w := mustWatch(t, dir, false)
	for i := range MaxEvents + 1 {
		must(t, os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o700))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for lost := false; !lost; {
		w.mu.Lock()
		lost = w.failure != nil
		changed := w.changed
		w.mu.Unlock()
		if !lost {
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatal("it never says that events are lost")
			}
		}
	}
	told := 0
	for {
		events, err := w.Take()
		told += len(events)
		if err != nil {
			if !errors.Is(err, ErrTooManyEvents) || told > MaxEvents {
				t.Errorf("after %d events: %v", told, err)
			}
			return
		}
	}
}

func TestAWatchEnds(t *testing.T) {
	w, err := New(t.TempDir(), true, plenty())
	must(t, err)
	ended := make(chan error)
	go func() {
		_, err := w.Wait(t.Context())
		ended <- err
	}()
	w.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("whoever waited got %v", err)
	}
	if _, err := New(filepath.Join(t.TempDir(), "none"), false, plenty()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("watching nothing: %v", err)
	}
}

// plenty is a budget that no test exhausts.
func plenty() *Budget { return NewBudget(1<<30, 1<<20) }

func TestWatchesShareWhatTheyKeep(t *testing.T) {
	dir := t.TempDir()
	budget := NewBudget(100*Event{Name: "00"}.cost(), 3)
	var watches []*Watch
	for range 3 {
		w, err := New(dir, false, budget)
		must(t, err)
		t.Cleanup(w.Close)
		watches = append(watches, w)
	}
	if _, err := New(dir, false, budget); !errors.Is(err, ErrTooManyDirectories) {
		t.Errorf("a fourth directory of three: %v", err)
	}
	for i := range 90 {
		must(t, os.Mkdir(filepath.Join(dir, fmt.Sprintf("%02d", i)), 0o700))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	told, lost := 0, 0
	for _, w := range watches {
		for n := 0; n < 90; {
			events, err := w.Wait(ctx)
			if n += len(events); errors.Is(err, ErrTooManyEvents) {
				lost++
				break
			}
			must(t, err)
			told += len(events)
		}
	}
	t.Logf("%d told, %d of 3 watches lost some", told, lost)
	for _, w := range watches {
		w.Close()
	}
	if bytes, directories := budget.bytes.left.Load(), budget.directories.left.Load(); bytes != 100*(Event{Name: "00"}).cost() || directories != 3 {
		t.Errorf("%d bytes and %d directories were given back", bytes, directories)
	}
}

func TestABudgetThatIsSpentEndsTheWatch(t *testing.T) {
	budget := NewBudget(2*Event{Name: "a"}.cost(), 10)
	first := &Watch{changed: make(chan struct{}), budget: budget}
	second := &Watch{changed: make(chan struct{}), budget: budget}
	first.put(Event{"a", Create})
	second.put(Event{"b", Create})
	second.put(Event{"c", Create})
	if events, err := second.Take(); len(events) != 1 || err != nil {
		t.Errorf("what was seen is told as %v, %v", events, err)
	}
	if _, err := second.Take(); !errors.Is(err, ErrTooManyEvents) {
		t.Errorf("that some are lost is told as %v", err)
	}
	first.put(Event{"d", Create}) // there is room again
	if events, err := first.Take(); len(events) != 2 || err != nil {
		t.Errorf("the other has %v, %v", events, err)
	}
}

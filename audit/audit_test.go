package audit

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOnlyItsOwnerReadsTheLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "audit")
	l := mustOpen(t, Config{Dir: dir, FileSize: 1})
	l.Decision(outcome("1"))
	l.Decision(outcome("2"))
	mustClose(t, l)
	for name, want := range map[string]os.FileMode{"": os.ModeDir | 0o700, activeName: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%q: mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
}

func TestWhatWasWrittenOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	for _, request := range []string{"1", "2", "3"} {
		l := mustOpen(t, Config{Dir: dir})
		l.Decision(outcome(request))
		mustClose(t, l)
	}
	if records, _ := read(t, dir, Filter{}); requests(records) != "1 2 3" {
		t.Errorf("records %s, want 1 2 3", requests(records))
	}
}

func TestEveryLineOfManyIsThereOnce(t *testing.T) {
	const writers, each = 8, 500
	dir := t.TempDir()
	l := mustOpen(t, Config{Dir: dir, FileSize: 64 << 10, Files: 1000})
	var wg sync.WaitGroup
	for writer := range writers {
		wg.Go(func() {
			for i := range each {
				l.Decision(outcome(fmt.Sprint(writer, "-", i)))
			}
		})
	}
	wg.Wait()
	mustClose(t, l)
	records, unreadable := read(t, dir, Filter{})
	seen := map[string]bool{}
	last := map[string]int{}
	for _, r := range records {
		var writer string
		var i int
		if _, err := fmt.Sscanf(strings.Replace(r.RequestID, "-", " ", 1), "%s %d", &writer, &i); err != nil {
			t.Fatal(err)
		}
		if before, any := last[writer]; any && i <= before {
			t.Fatalf("line %d of %s stands behind %d", i, writer, before)
		}
		last[writer], seen[r.RequestID] = i, true
	}
	if len(seen) != writers*each || len(records) != writers*each || unreadable != 0 {
		t.Errorf("%d lines, %d different ones, %d unreadable; want %d", len(records), len(seen), unreadable, writers*each)
	}
	if got := l.Stats(); got != (Stats{Lines: writers * each}) {
		t.Errorf("counted %+v", got)
	}
	if full, err := fullFiles(dir); err != nil || len(full) < 2 {
		t.Errorf("full files %v, %v; want several", full, err)
	}
}

// A pipe that nobody reads is a disk that takes its time.
func TestARequestWaitsForASlowDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, activeName), 0o600); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, Config{Dir: dir})
	disk, err := os.OpenFile(filepath.Join(dir, activeName), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = disk.SetReadDeadline(time.Now().Add(10 * time.Second)) // a lost line would be waited for
	const all = 4 * queueLength
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range all {
			l.Decision(outcome(fmt.Sprint(i)))
		}
	})
	for len(l.queue) < queueLength { // else it could not be full
		runtime.Gosched()
	}
	reader := bufio.NewReader(disk)
	for i := range all {
		line, err := reader.ReadString('\n')
		if err != nil || !strings.Contains(line, fmt.Sprintf(`"request_id":"%d"`, i)) {
			t.Errorf("line %d is %q, %v", i, line, err)
			break
		}
	}
	_ = disk.SetReadDeadline(time.Time{})
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, reader)
	}()
	wg.Wait()
	_ = l.Close() // a pipe cannot be synced
	_ = disk.Close()
	<-drained
	if got := l.Stats(); got != (Stats{Lines: all}) {
		t.Errorf("counted %+v, want %d lines", got, all)
	}
}

func TestADiskThatRefusesIsToldOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/dev/full", filepath.Join(dir, activeName)); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	l, err := Open(Config{Dir: dir, Log: slog.New(slog.NewTextHandler(&told, nil))})
	if err != nil {
		t.Fatal(err)
	}
	const all = 3 * queueLength
	for i := range all {
		l.Decision(outcome(fmt.Sprint(i)))
	}
	_ = l.Close() // it cannot be synced either
	l.Decision(outcome("late"))
	if got := l.Stats(); got != (Stats{Lost: all + 1}) {
		t.Errorf("counted %+v, want %d lost", got, all+1)
	}
	if strings.Count(told.String(), "level=ERROR") != 1 {
		t.Errorf("told:\n%s", told.String())
	}
}

func TestSoManyFullFilesAreKept(t *testing.T) {
	dir := t.TempDir()
	foreign := []string{"audit-x.jsonl", "audit-007.jsonl", "notes"}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 12 { // a run for each: the numbers must go on
		l := mustOpen(t, Config{Dir: dir, FileSize: 1, Files: 3})
		l.Decision(outcome(fmt.Sprint(i)))
		mustClose(t, l)
	}
	if records, _ := read(t, dir, Filter{}); requests(records) != "8 9 10 11" {
		t.Errorf("records %s, want those of the last four files", requests(records))
	}
	full, err := fullFiles(dir)
	if diff := cmp.Diff([]int{9, 10, 11}, full); diff != "" || err != nil {
		t.Errorf("full files: %v\n%s", err, diff)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("a file that is not the log's: %v", err)
		}
	}
}

func TestTheLogGoesOnWhenAFullFileCannotBeMoved(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Config{Dir: dir, FileSize: 1})
	l.Decision(outcome("1"))
	mustClose(t, l)
	if err := os.MkdirAll(filepath.Join(dir, "audit-1.jsonl", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "audit-2.jsonl"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := openFiles(dir, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.write([]byte("{}\n")); n != 3 || err == nil {
		t.Errorf("wrote %d, %v; want all of it, and an error that tells of the old file", n, err)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
	if got := lines(t, dir); !slices.Equal(got, []string{"{}\n"}) {
		t.Errorf("lines %q", got)
	}
}

func TestHalfALineIsSkipped(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Config{Dir: dir})
	l.Decision(outcome("1"))
	l.Decision(outcome("2"))
	mustClose(t, l)
	name := filepath.Join(dir, activeName)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(whole, '\n') + 1
	for end := first; end < len(whole); end++ { // wherever the server was killed
		if err := os.WriteFile(name, whole[:end], 0o600); err != nil {
			t.Fatal(err)
		}
		before, unreadable := read(t, dir, Filter{})
		if unreadable != 0 || requests(before) != "1" && end < len(whole)-1 {
			t.Fatalf("after %d bytes: records %s, %d unreadable", end, requests(before), unreadable)
		}
		l := mustOpen(t, Config{Dir: dir})
		l.Decision(outcome("3"))
		mustClose(t, l)
		after, unreadable := read(t, dir, Filter{})
		want, halves := requests(before)+" 3", 1
		if end == first || end == len(whole)-1 {
			halves = 0
		}
		if requests(after) != want || unreadable != halves {
			t.Fatalf("after %d bytes and a new server: records %s, %d unreadable; want %s, %d", end, requests(after), unreadable, want, halves)
		}
	}
}

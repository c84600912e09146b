// Package audit writes down who did what: each decision of the door, each thing
// done to a sandbox, and each thing done inside one through the server. It
// stands above the parts that it records, and none of them knows it.
//
// A line is one JSON object. Lines go to DIR/audit.jsonl (mode 0600), which is
// moved aside when it is full; so many full files are kept. A request waits
// until its line is taken: when the disk is slow, the server is. A line that the
// disk refuses is lost and counted, and requests go on. A line is in the
// kernel's hands a moment after it was taken: killing the server loses what is
// on its way, and may leave half a line, which readers skip. Files are synced
// when they are full and when the log is closed.
//
// It must never hold a credential, a variable of an environment, or the content
// of a file or of an input. Commands and paths stand in it as they were sent, up
// to a bound, and a client can have put a secret into one: nobody can tell. That
// is why somebody has to ask for this log, and why root alone reads it.
package audit

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Config is where the log is and how much of it is kept.
type Config struct {
	Dir string // made if it is not there, mode 0700
	// FileSize is when a file is full, in bytes. Default 64 MiB.
	FileSize int64
	// Files is how many full ones are kept. Default 16.
	Files int
	// Log is told when the disk begins to refuse lines, and when it takes them
	// again. Default slog.Default().
	Log *slog.Logger
}

const (
	defaultFileSize = 64 << 20
	defaultFiles    = 16
	// queueLength is how many lines may wait for the writer.
	queueLength = 1024
	// maxBatch is how much is written at once, give or take a line, in bytes.
	maxBatch = 256 << 10
)

// Dir is where a server keeps its log, by its data directory.
func Dir(dataDir string) string { return filepath.Join(dataDir, "audit") }

// Log is an open log. It may be used concurrently.
type Log struct {
	log   *slog.Logger
	queue chan []byte
	ended chan struct{} // closed once the writer has ended
	lines atomic.Uint64
	lost  atomic.Uint64

	mu     sync.RWMutex // held for reading while a line is handed over
	closed bool

	// The writer's own:
	files   *files
	failing bool
	last    error // of closing
}

// Stats are counted since the start.
type Stats struct {
	Lines uint64 // written
	Lost  uint64 // refused by the disk, or come after Close
}

// Open opens the log in a directory, which no other Log may have open. Close
// comes last, after everything that could still have something to say.
func Open(c Config) (*Log, error) {
	files, err := openFiles(c.Dir, cmp.Or(c.FileSize, defaultFileSize), cmp.Or(c.Files, defaultFiles))
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	l := &Log{
		log: cmp.Or(c.Log, slog.Default()), files: files,
		queue: make(chan []byte, queueLength), ended: make(chan struct{}),
	}
	go l.work()
	return l, nil
}

// Close writes what waits and syncs. What comes later is lost, and counted.
func (l *Log) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
	l.mu.Unlock()
	<-l.ended
	return l.last
}

// Stats reads the counters.
func (l *Log) Stats() Stats { return Stats{Lines: l.lines.Load(), Lost: l.lost.Load()} }

// write takes a record, and waits for that if need be.
func (l *Log) write(r Record) {
	line := r.line()
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		l.lost.Add(1)
		return
	}
	l.queue <- line
}

// work is the writer: it takes what is there, and writes it at once.
func (l *Log) work() {
	defer close(l.ended)
	var batch []byte
	for line := range l.queue {
		batch = append(batch[:0], line...)
		for waiting := len(l.queue); waiting > 0 && len(batch) < maxBatch; waiting-- {
			batch = append(batch, <-l.queue...) // nobody else takes any
		}
		l.save(batch)
	}
	l.last = l.files.close()
}

func (l *Log) save(batch []byte) {
	n, err := l.files.write(batch)
	lost := bytes.Count(batch[n:], newline)
	l.lines.Add(uint64(bytes.Count(batch, newline) - lost))
	l.lost.Add(uint64(lost))
	switch {
	case err != nil && !l.failing:
		l.log.Error("the audit log cannot be written as it should: is the disk full? Lines that are lost are counted", "error", err)
	case err == nil && l.failing:
		l.log.Info("the audit log is written again", "lost", l.lost.Load())
	}
	l.failing = err != nil
}

var newline = []byte{'\n'}

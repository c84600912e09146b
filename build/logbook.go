package build

import (
	"sync"

	"cube"
)

// What is kept of one build's log.
const (
	maxLogLines = 20_000
	maxLogBytes = 16 << 20
	// spareLines are kept beyond that of those that say what went wrong.
	spareLines = 100
	// flushLines is how many may wait for being written.
	flushLines = 64
)

// logbook writes the log of one build into the store, behind whoever writes it.
type logbook struct {
	service *Service
	id      cube.BuildID

	writing sync.Mutex // held while lines are written, which keeps their order; taken before mu

	mu     sync.Mutex // guards what follows
	lines  []cube.LogEntry
	count  int
	bytes  int
	signal chan struct{}
	closed bool
	ended  chan struct{}
}

func newLogbook(s *Service, id cube.BuildID) *logbook {
	l := &logbook{service: s, id: id, signal: make(chan struct{}, 1), ended: make(chan struct{})}
	go l.run()
	return l
}

// add takes a line and does not wait.
func (l *logbook) add(line cube.LogEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	grave := line.Level == "warn" || line.Level == "error"
	full := l.count >= maxLogLines || l.bytes >= maxLogBytes
	if l.closed || full && (!grave || l.count >= maxLogLines+spareLines) {
		return
	}
	l.count++
	l.bytes += len(line.Message)
	l.lines = append(l.lines, line)
	if !full && (l.count == maxLogLines || l.bytes >= maxLogBytes) {
		l.count = maxLogLines
		l.lines = append(l.lines, cube.LogEntry{Time: line.Time, Level: "warn", Step: line.Step, Message: "The log is full: the rest is not kept, but for errors"})
	}
	select {
	case l.signal <- struct{}{}:
	default: // it is about to look anyway
	}
}

func (l *logbook) run() {
	defer close(l.ended)
	for range l.signal {
		l.flush()
	}
}

// flush writes what waits. Whoever reads the log does it first.
func (l *logbook) flush() {
	l.writing.Lock()
	defer l.writing.Unlock()
	for {
		l.mu.Lock()
		lines := l.lines[:min(len(l.lines), flushLines)]
		l.lines = l.lines[len(lines):]
		l.mu.Unlock()
		if len(lines) == 0 {
			return
		}
		write, cancel := bounded(l.service.ctx)
		err := l.service.store.AddBuildLog(write, l.id, lines)
		cancel()
		if err != nil {
			l.service.log.Warn("lines of a build's log are lost", "build", l.id, "error", err)
		}
	}
}

// close writes the rest.
func (l *logbook) close() {
	l.mu.Lock()
	was := l.closed
	l.closed = true
	if !was {
		close(l.signal)
	}
	l.mu.Unlock()
	<-l.ended
	l.flush()
}

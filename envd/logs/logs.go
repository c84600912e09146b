// Package logs keeps the last lines that processes printed, for the server to
// fetch. It must never grow with what they print, and never make them wait.
package logs

import (
	"bytes"
	"crypto/rand"
	"strings"
	"sync"
	"time"
)

// The bounds of what is kept until it is fetched.
const (
	MaxLines = 4096
	MaxBytes = 1 << 20 // of all messages together
	MaxLine  = 4 << 10 // bytes of one message: a longer line is told in parts
	// MaxPage is how many bytes of messages one page holds: JSON makes six of one,
	// if they are all control characters.
	MaxPage = 256 << 10
)

// Line is one line.
type Line struct {
	Seq     uint64            `json:"seq"` // 1 for the first
	Time    time.Time         `json:"time"`
	Level   string            `json:"level"` // debug, info, warn or error
	Message string            `json:"message"`
	Fields  map[string]string `json:"fields,omitempty"`
}

// Log keeps lines. Its methods may be called concurrently.
type Log struct {
	mu    sync.Mutex
	epoch string
	lines []Line
	bytes int
	last  uint64 // the sequence number of the last line, kept or not
}

// New makes an empty log.
func New() *Log { return &Log{epoch: rand.Text()} }

// Reset forgets all: the sandbox is another one now.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch, l.lines, l.bytes, l.last = rand.Text(), nil, 0, 0
}

// Add keeps a line; the oldest make room for it.
func (l *Log) Add(level, message string, fields map[string]string) {
	message = strings.ToValidUTF8(message, "\uFFFD")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.lines = append(l.lines, Line{l.last, time.Now().UTC(), level, message, fields})
	l.bytes += len(message)
	for len(l.lines) > MaxLines || l.bytes > MaxBytes {
		l.bytes -= len(l.lines[0].Message)
		l.lines[0] = Line{} // what append leaves behind when it moves the rest
		l.lines = l.lines[1:]
	}
}

// Page is a part of a log.
type Page struct {
	// Epoch names the log: sequence numbers of another one mean nothing in it.
	Epoch string `json:"epoch"`
	Lines []Line `json:"lines"`
	More  bool   `json:"more"` // whether there are lines after these
}

// After returns lines that follow one, at most so many and MaxPage bytes, the
// oldest first. What follows a line of another log is the whole log.
func (l *Log) After(epoch string, seq uint64, most int) Page {
	l.mu.Lock()
	defer l.mu.Unlock()
	page := Page{Epoch: l.epoch, Lines: []Line{}}
	if epoch != l.epoch {
		seq = 0
	}
	bytes := 0
	for _, line := range l.lines {
		if line.Seq <= seq {
			continue
		}
		if bytes += len(line.Message); len(page.Lines) == most || bytes > MaxPage {
			page.More = true
			break
		}
		page.Lines = append(page.Lines, line)
	}
	return page
}

// Writer makes lines of what a process writes. It is for one goroutine.
type Writer struct {
	log     *Log
	level   string
	fields  map[string]string
	pending []byte
}

// Writer returns one for a stream.
func (l *Log) Writer(level string, fields map[string]string) *Writer {
	return &Writer{log: l, level: level, fields: fields}
}

// Write implements io.Writer. It never fails.
func (w *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		room := MaxLine - len(w.pending)
		if len(line) > room {
			w.pending, p = append(w.pending, line[:room]...), p[room:]
			w.flush()
			continue
		}
		w.pending, p = append(w.pending, line...), rest
		if whole {
			w.flush()
		}
	}
	return n, nil
}

// Close tells the line that has no end.
func (w *Writer) Close() {
	if len(w.pending) > 0 {
		w.flush()
	}
}

func (w *Writer) flush() {
	w.log.Add(w.level, strings.TrimSuffix(string(w.pending), "\r"), w.fields)
	w.pending = w.pending[:0]
}

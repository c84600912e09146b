package build

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"cube"
)

// Bounds of what a build's log keeps, in bytes.
const (
	maxLine       = 4 << 10
	maxStepOutput = 1 << 20 // of what one command prints
	entrySize     = 64      // what an entry takes besides its message
)

// journal writes a build's log.
type journal struct {
	mu    sync.Mutex // held while write is called
	write func(cube.LogEntry)
}

func (j *journal) add(level, step, message string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(cube.LogEntry{Time: time.Now().UTC(), Level: level, Message: cut(strings.ToValidUTF8(message, "\uFFFD")), Step: step})
}

func (j *journal) info(step, format string, args ...any) {
	j.add("info", step, fmt.Sprintf(format, args...))
}

// cut bounds a line.
func cut(line string) string {
	if len(line) <= maxLine {
		return line
	}
	return strings.ToValidUTF8(line[:maxLine], "") + "…"
}

// output is what a command prints on its way into the log, line by line.
type output struct {
	log                 *journal
	level, step, prefix string
	kept                int // bytes that are in the log
	streams             map[string]*bytes.Buffer
}

func newOutput(log *journal, level, step, prefix string) *output {
	return &output{log: log, level: level, step: step, prefix: prefix, streams: map[string]*bytes.Buffer{"stdout": {}, "stderr": {}}}
}

// print takes what was printed to a stream.
func (o *output) print(stream string, content []byte) {
	pending := o.streams[stream]
	for len(content) > 0 {
		line, rest, whole := bytes.Cut(content, []byte("\n"))
		// What is longer than a line may be is cut there, however long it goes on.
		pending.Write(line[:min(len(line), max(0, maxLine+1-pending.Len()))])
		if whole {
			o.line(stream)
		}
		content = rest
	}
}

// flush takes lines that have no end.
func (o *output) flush() {
	o.line("stdout")
	o.line("stderr")
}

// line ends one. Of a line that was written over, as progress is, what was last.
func (o *output) line(stream string) {
	text := strings.TrimRight(o.streams[stream].String(), " \t\r")
	o.streams[stream].Reset()
	text = strings.TrimSpace(text[strings.LastIndexByte(text, '\r')+1:])
	if text == "" || o.kept > maxStepOutput {
		return
	}
	message := fmt.Sprintf("[%s] [%s]: %s", o.prefix, stream, text)
	if o.kept += len(message) + entrySize; o.kept > maxStepOutput {
		o.log.add("warn", o.step, fmt.Sprintf("[%s] it prints more than %d MiB: the rest is not kept", o.prefix, maxStepOutput>>20))
		return
	}
	o.log.add(o.level, o.step, message)
}

package process

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	pb "cube/envd/gen/process"
)

// Output is read in chunks of at most these many bytes, as E2B's agent does.
const (
	pipeChunk     = 32 << 10
	terminalChunk = 16 << 10
)

const (
	// outputGrace is how long output is waited for after a process has ended,
	// while something that it left behind still holds its output open. It may
	// be a server that runs for hours, or the "tee" of a process substitution,
	// which is about to print the last line.
	outputGrace = 200 * time.Millisecond
	// maxPipe is what a pipe can hold at the most, in bytes: pipe(7).
	maxPipe = 1 << 20
)

// output is one stream that a process writes.
type output struct {
	file *os.File
	wrap func([]byte) *pb.ProcessEvent_DataEvent
	size int // of a chunk
}

func stdout(b []byte) *pb.ProcessEvent_DataEvent {
	return &pb.ProcessEvent_DataEvent{Output: &pb.ProcessEvent_DataEvent_Stdout{Stdout: b}}
}

func stderr(b []byte) *pb.ProcessEvent_DataEvent {
	return &pb.ProcessEvent_DataEvent{Output: &pb.ProcessEvent_DataEvent_Stderr{Stderr: b}}
}

func terminal(b []byte) *pb.ProcessEvent_DataEvent {
	return &pb.ProcessEvent_DataEvent{Output: &pb.ProcessEvent_DataEvent_Pty{Pty: b}}
}

// chunks are for what is being read now.
var chunks = sync.Pool{New: func() any { return new([pipeChunk]byte) }}

// passOn publishes what is written, until the stream ends or endSoon has made
// its read deadline pass.
func (o output) passOn(to *audience) {
	for {
		event, err := o.next()
		if event != nil {
			to.publish(event)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			o.passOnRest(to)
			return
		case err != nil: // the end; a terminal's is EIO
			return
		}
	}
}

// next waits until something is written, and returns it. While it waits it holds
// no chunk: a thousand processes that print nothing need no memory for it.
func (o output) next() (event *pb.ProcessEvent, err error) {
	raw, err := o.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	err = raw.Read(func(fd uintptr) (done bool) {
		event, failed = o.readNow(int(fd))
		return !errors.Is(failed, unix.EAGAIN)
	})
	return event, cmp.Or(err, failed)
}

// readNow returns what waits in the stream. It does not block: pipes and
// terminals never do here.
func (o output) readNow(fd int) (*pb.ProcessEvent, error) {
	chunk := chunks.Get().(*[pipeChunk]byte)
	defer chunks.Put(chunk)
	for {
		n, err := unix.Read(fd, chunk[:o.size])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case n == 0:
			return nil, io.EOF
		default:
			return o.event(chunk[:n]), nil
		}
	}
}

// passOnRest publishes what waits in the stream now. There is something if a
// slow follower kept us from reading until the deadline was over.
func (o output) passOnRest(to *audience) {
	// Bounded, because something left behind may go on writing.
	for total := 0; total < maxPipe; {
		var event *pb.ProcessEvent
		err := control(o.file, func(fd int) (err error) {
			event, err = o.readNow(fd)
			return err
		})
		if err != nil {
			return
		}
		total += size(event)
		to.publish(event)
	}
}

// endSoon gives passOn the time that output may still take.
func (o output) endSoon() { _ = o.file.SetReadDeadline(time.Now().Add(outputGrace)) }

// discard reads on until nothing holds the stream open any more. What a process
// left behind must neither block nor die because it still prints.
func (o output) discard() {
	_ = o.file.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, o.file)
	_ = o.file.Close()
}

func (o output) event(b []byte) *pb.ProcessEvent {
	return &pb.ProcessEvent{Event: &pb.ProcessEvent_Data{Data: o.wrap(bytes.Clone(b))}}
}

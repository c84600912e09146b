package process

import (
	"bytes"
	"errors"
	"io"
	"os"
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

// passOn publishes what is written, until the stream ends or endSoon has made
// its read deadline pass.
func (o output) passOn(to *audience) {
	buf := make([]byte, o.size)
	for {
		n, err := o.file.Read(buf)
		if n > 0 {
			to.publish(o.event(buf[:n]))
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			o.passOnRest(to, buf)
			return
		case err != nil: // the end; a terminal's is EIO
			return
		}
	}
}

// passOnRest publishes what waits in the stream now. There is something if a
// slow follower kept us from reading until the deadline was over.
func (o output) passOnRest(to *audience, buf []byte) {
	// Bounded, because something left behind may go on writing.
	for total := 0; total < maxPipe; {
		n := 0
		// Does not block: pipes and terminals never do here.
		err := control(o.file, func(fd int) (err error) {
			n, err = unix.Read(fd, buf)
			return err
		})
		if err != nil || n == 0 {
			return
		}
		total += n
		to.publish(o.event(buf[:n]))
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

package image

import (
	"context"
	"io"
)

// ahead reads on while its reader is busy with what it has: a layer is fetched
// and decompressed on one processor while it is unpacked on another.
type ahead struct {
	inner   io.ReadCloser
	stop    context.CancelFunc // ends a read of inner
	chunks  chan chunk
	ended   chan struct{} // no more is read of inner
	closing chan struct{}
	current chunk
}

// chunk is what was read, and how it ended.
type chunk struct {
	data []byte
	err  error
}

const (
	chunkSize = 256 << 10
	maxChunks = 8 // that wait
)

// newAhead begins to read. stop must end a read of inner that waits.
func newAhead(inner io.ReadCloser, stop context.CancelFunc) *ahead {
	a := &ahead{inner: inner, stop: stop, chunks: make(chan chunk, maxChunks), ended: make(chan struct{}), closing: make(chan struct{})}
	go a.fill()
	return a
}

func (a *ahead) fill() {
	defer close(a.ended)
	for {
		c := chunk{data: make([]byte, 0, chunkSize)}
		for len(c.data) < chunkSize && c.err == nil {
			var n int
			n, c.err = a.inner.Read(c.data[len(c.data):chunkSize])
			c.data = c.data[:len(c.data)+n]
		}
		select {
		case a.chunks <- c:
		case <-a.closing:
			return
		}
		if c.err != nil {
			return
		}
	}
}

// Read implements io.Reader.
func (a *ahead) Read(p []byte) (int, error) {
	if len(a.current.data) == 0 {
		if a.current.err != nil {
			return 0, a.current.err
		}
		a.current = <-a.chunks
	}
	n := copy(p, a.current.data)
	if a.current.data = a.current.data[n:]; n == 0 && len(p) > 0 {
		return 0, a.current.err
	}
	return n, nil
}

// Close implements io.Closer. It is called once, and no Read after it.
func (a *ahead) Close() error {
	close(a.closing)
	a.stop()
	<-a.ended
	return a.inner.Close()
}

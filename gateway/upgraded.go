package gateway

import (
	"io"
	"sync"
)

// upgradedBody is what net/http gives for the connection behind an answer 101.
type upgradedBody interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// upgraded is such a connection, which may idle for hours, and there may be ten
// thousand. ReverseProxy copies both ways through the methods below, so that an
// idle one holds on to little, and a busy one has large buffers.
type upgraded struct{ upgradedBody }

const (
	idleBuffer = 1 << 10
	busyBuffer = 32 << 10
)

var busyBuffers = sync.Pool{New: func() any { return new([busyBuffer]byte) }}

// WriteTo implements io.WriterTo.
func (u upgraded) WriteTo(client io.Writer) (int64, error) { return pass(client, u.upgradedBody) }

// ReadFrom implements io.ReaderFrom.
func (u upgraded) ReadFrom(client io.Reader) (int64, error) { return pass(u.upgradedBody, client) }

// pass copies what comes until it ends. While more comes than fits into the small
// buffer it has a large one.
func pass(to io.Writer, from io.Reader) (passed int64, err error) {
	var small [idleBuffer]byte
	for {
		n, err := from.Read(small[:])
		passed, err = give(to, small[:n], passed, err)
		if err == nil && n == len(small) {
			passed, err = passBusy(to, from, passed)
		}
		if err != nil {
			return passed, ended(err)
		}
	}
}

// passBusy copies while much comes at once.
func passBusy(to io.Writer, from io.Reader, passed int64) (int64, error) {
	large := busyBuffers.Get().(*[busyBuffer]byte)
	defer busyBuffers.Put(large)
	for {
		n, err := from.Read(large[:])
		if passed, err = give(to, large[:n], passed, err); err != nil || n < len(large) {
			return passed, err
		}
	}
}

// give writes what was read; failed is the error of the reading.
func give(to io.Writer, data []byte, passed int64, failed error) (int64, error) {
	if len(data) == 0 {
		return passed, failed
	}
	n, err := to.Write(data)
	if err != nil {
		failed = err
	}
	return passed + int64(n), failed
}

// ended is nil for the end of a stream, as io.Copy has it.
func ended(err error) error {
	if err == io.EOF { //nolint:errorlint // as io.Copy
		return nil
	}
	return err
}

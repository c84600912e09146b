package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// limitKey is the context's key for what an answer's body may have.
type limitKey struct{}

// defaultLimit is for bodies of which nobody has said more: tokens, greetings.
const defaultLimit = 1 << 20

// withBodyLimit bounds the bodies of all answers to requests with the context.
func withBodyLimit(ctx context.Context, bytes int64) context.Context {
	return context.WithValue(ctx, limitKey{}, bytes)
}

func bodyLimit(ctx context.Context) int64 {
	if n, ok := ctx.Value(limitKey{}).(int64); ok {
		return n
	}
	return defaultLimit
}

// tooLongError is an answer with more than it should have.
type tooLongError struct{ limit, size int64 } // size is 0 if it never said

func (e *tooLongError) Error() string {
	return fmt.Sprintf("an answer of more than the %d bytes that are expected (it says %d)", e.limit, e.size)
}

// transferError is a body that did not come whole.
type transferError struct{ cause error }

func (e *transferError) Error() string { return "the connection to the registry: " + e.cause.Error() }
func (e *transferError) Unwrap() error { return e.cause }

var errStalled = errors.New("the registry sends nothing, or next to nothing")

const (
	maxResumes = 5
	// trickle is what must come within a stall's time.
	trickle = 64 << 10
)

// body is an answer's body. One that breaks off is asked for again from there,
// one that stalls is broken off, and one that is too long is an error. The time
// that its reader takes between reads counts for nothing.
type body struct {
	ctx       context.Context
	cancel    context.CancelFunc
	transport *transport
	request   *http.Request
	current   io.ReadCloser

	rest      int64 // how much more may come
	truncate  bool  // what is longer ends there, without an error
	read      int64
	resumable bool
	resumes   int // since resumedAt
	resumedAt int64

	stall  time.Duration
	waited time.Duration // for the bytes since
	since  int64
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.rest == 0 && b.truncate {
		return 0, io.EOF
	}
	if int64(len(p)) > b.rest+1 {
		p = p[:b.rest+1] // one more than allowed tells that there is more
	}
	n, err := b.readSome(p)
	if int64(n) > b.rest {
		if n = int(b.rest); b.truncate {
			b.rest, b.read = 0, b.read+int64(n)
			return n, io.EOF
		}
		return n, &transferError{&tooLongError{limit: b.read + b.rest}}
	}
	b.rest, b.read = b.rest-int64(n), b.read+int64(n)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if b.resume(err) {
		return n, nil
	}
	return n, &transferError{err}
}

// readSome reads within the time that is left for the next bytes.
func (b *body) readSome(p []byte) (int, error) {
	var stalled atomic.Bool
	began := time.Now()
	current := b.current
	timer := time.AfterFunc(b.stall-b.waited, func() {
		stalled.Store(true)
		_ = current.Close() // ends the read
		b.cancel()
	})
	n, err := current.Read(p)
	timer.Stop()
	if stalled.Load() {
		return n, errStalled
	}
	b.waited += time.Since(began)
	if b.since += int64(n); b.since >= trickle {
		b.waited, b.since = 0, 0
	}
	return n, err
}

// resume asks for what is missing after a connection broke.
func (b *body) resume(cause error) bool {
	if b.read-b.resumedAt >= 16<<20 {
		b.resumes = 0
	}
	if !b.resumable || b.ctx.Err() != nil || errors.Is(cause, errStalled) || b.resumes == maxResumes {
		return false
	}
	b.resumes++
	b.resumedAt = b.read
	_ = b.current.Close()
	again := b.request.Clone(b.ctx)
	again.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.read))
	resp, err := b.transport.ask(again)
	if err != nil {
		return false
	}
	if resp.StatusCode != http.StatusPartialContent || !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", b.read)) {
		_ = resp.Body.Close()
		return false
	}
	b.current = resp.Body
	return true
}

// Close implements io.Closer.
func (b *body) Close() error {
	err := b.current.Close()
	b.cancel()
	return err
}

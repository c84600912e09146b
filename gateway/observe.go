package gateway

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"cube"
	"cube/internal/requestid"
)

// Action is what a request to the agent does inside a sandbox.
type Action string

// The actions.
const (
	ProcessStarted   Action = "process.started"
	ProcessConnected Action = "process.connected" // somebody reads its output
	ProcessInput     Action = "process.input"     // never what was written
	ProcessSignalled Action = "process.signalled"
	FileRead         Action = "file.read"
	FileWritten      Action = "file.written"  // never what was written
	FileLooked       Action = "file.looked"   // at what it is, not at what is in it
	FileComposed     Action = "file.composed" // of others, which are removed
	FileMoved        Action = "file.moved"
	FileRemoved      Action = "file.removed"
	DirectoryListed  Action = "directory.listed"
	DirectoryWatched Action = "directory.watched"
	DirectoryMade    Action = "directory.made"
)

// Operation is one request to the agent, as its client sent it. It holds no
// variable of an environment, no content of a file or of an input, no token; but
// a command's arguments, in which a client may have put a secret.
type Operation struct {
	Time      time.Time // when it arrived, UTC
	RequestID string
	Remote    string // the client's address, without the port
	Sandbox   cube.SandboxID
	Owner     cube.Owner // of the sandbox: the agent does not know who asks
	Action    Action
	User      string   // the account inside, "" for the default one
	Command   []string // of ProcessStarted: the command and its arguments
	Paths     []string // of files: one, or source and destination of a move, or sources and destination
	Process   string   // "pid 7" or "tag x", of what is done to a running process
	Signal    string
	// Incomplete says that not all of it could be read: the request is malformed,
	// or what matters stands behind its first 64 KiB.
	Incomplete bool
	// Status is that of the answer, 0 if there was none. A stream that the agent
	// fails is a 200 all the same.
	Status int
}

// maxPeek is how much of a request's body is looked at, in bytes.
const maxPeek = 64 << 10

// watched is a request on which an observer waits. It is told once: when the
// agent answers, or when it is sure that it will not.
type watched struct {
	http.ResponseWriter
	request *http.Request
	read    reader
	body    *peek // nil without a body
	tell    func(Operation)
	what    Operation
	told    bool
}

// watch replaces a request and its writer by ones that are watched, if there is
// something to observe. The returned function is called when all is over.
func (g *Gateway) watch(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request, func()) {
	t := targetOf(r.Context())
	read, found := readerOf(r)
	if g.observe == nil || t.port != cube.AgentPort || !found {
		return w, r, func() {}
	}
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		remote = r.RemoteAddr
	}
	o := &watched{ResponseWriter: w, request: r, read: read, tell: g.observe, what: Operation{
		Time: time.Now().UTC(), RequestID: requestid.From(r.Context()), Remote: remote,
		Sandbox: t.id, Owner: g.sandboxes.Owner(t.id), Action: read.action,
	}}
	if read.needsBody(r) && r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
		o.body = &peek{ReadCloser: r.Body, length: r.ContentLength}
		r = r.WithContext(r.Context())
		r.Body = o.body
	}
	return o, r, func() { o.end(0) }
}

// Unwrap is for http.ResponseController.
func (o *watched) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (o *watched) WriteHeader(status int) {
	if status >= http.StatusOK { // else an informational one comes first
		o.end(status)
	}
	o.ResponseWriter.WriteHeader(status)
}

func (o *watched) end(status int) {
	if o.told {
		return
	}
	o.told = true
	o.what.Status = status
	seen, whole := o.body.take()
	o.read.details(&o.what, o.request, seen, whole)
	o.tell(o.what)
}

// peek is a body that keeps a copy of its beginning, as it streams by. The proxy
// reads it in another goroutine than the one that takes the copy.
type peek struct {
	io.ReadCloser
	length int64 // -1 if it is not known

	mu    sync.Mutex // guards what follows
	seen  bytes.Buffer
	read  int64
	ended bool // read to its end
	taken bool
}

// Read implements io.Reader.
func (p *peek) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.taken {
		p.seen.Write(b[:min(n, maxPeek-p.seen.Len())])
		p.read += int64(n)
		p.ended = p.ended || errors.Is(err, io.EOF) || p.read == p.length
	}
	return n, err
}

// take returns what was seen, and whether it is the whole body; nothing is kept
// from then on.
func (p *peek) take() (seen []byte, whole bool) {
	if p == nil {
		return nil, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = true
	seen, whole = p.seen.Bytes(), p.ended && p.read == int64(p.seen.Len())
	p.seen = bytes.Buffer{}
	return seen, whole
}

package fake

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// server is an HTTP server whose connections are pipes, so that tests need no
// network and may run in a synctest bubble.
type server struct {
	conns  chan net.Conn
	closed chan struct{}

	mu    sync.Mutex
	pipes []net.Conn // all that were dialled; nil once the server is closed
}

func serve(handler http.Handler) *server {
	s := &server{conns: make(chan net.Conn), closed: make(chan struct{}), pipes: []net.Conn{}}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols)} //nolint:gosec // of a test, in memory
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener{s}) }()
	return s
}

// close breaks all connections. It is called once.
func (s *server) close() {
	close(s.closed)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pipe := range s.pipes {
		_ = pipe.Close()
	}
	s.pipes = nil
}

// dial returns net.ErrClosed once the server is closed.
func (s *server) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.mu.Lock()
	if s.pipes == nil {
		s.mu.Unlock()
		return nil, net.ErrClosed
	}
	s.pipes = append(s.pipes, theirs)
	s.mu.Unlock()
	select {
	case s.conns <- theirs:
		return ours, nil
	case <-s.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// listener makes a server's channel a net.Listener.
type listener struct{ *server }

func (l listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error   { return nil } // Accept ends by server.close
func (l listener) Addr() net.Addr { return address{} }

type address struct{}

func (address) Network() string { return "pipe" }
func (address) String() string  { return "pipe" }

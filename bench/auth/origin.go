package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// origin is a server behind the systems: the auth service, and the backend. It
// reads heads of HTTP/1.1 as they are on the wire, so that what came can be shown
// as it came, and answers with bytes made beforehand, so that little of the time
// that is measured is its own.
type origin struct {
	addr string

	questions   atomic.Int64
	connections atomic.Int64 // opened since the start

	mu       sync.Mutex
	answer   answer
	listener net.Listener
	conns    map[net.Conn]bool
	record   bool
	heads    []head
}

// answer talks to one connection on which a head came, the n-th on it from 0 on.
// It returns false to close the connection.
type answer func(c net.Conn, n int) bool

// head is a request's line and headers as they came.
type head string

// startOrigin listens on a port of loopback.
func startOrigin(a answer) (*origin, error) {
	o := &origin{answer: a, conns: map[net.Conn]bool{}}
	if err := o.listen("127.0.0.1:0"); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *origin) listen(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	o.mu.Lock()
	o.listener, o.addr = listener, listener.Addr().String()
	o.mu.Unlock()
	go o.accept(listener)
	return nil
}

// down closes the port and every connection. What asks then is refused.
func (o *origin) down() {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.listener.Close()
	for c := range o.conns {
		_ = c.Close()
	}
}

// up opens the same port again.
func (o *origin) up() error { return o.listen(o.addr) }

func (o *origin) accept(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one connection
		}
		o.connections.Add(1)
		o.mu.Lock()
		o.conns[c] = true
		o.mu.Unlock()
		go o.serve(c)
	}
}

func (o *origin) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		o.mu.Lock()
		delete(o.conns, c)
		o.mu.Unlock()
	}()
	in := bufio.NewReaderSize(c, 16<<10)
	for n := 0; ; n++ {
		raw, err := readHead(in)
		if err != nil {
			return
		}
		o.questions.Add(1)
		o.mu.Lock()
		answer := o.answer
		if o.record {
			o.heads = append(o.heads, head(raw))
		}
		o.mu.Unlock()
		if !answer(c, n) {
			return
		}
	}
}

var errTooLong = errors.New("a head of over 16 KiB")

// readHead reads a head with the empty line at its end. A body must not follow:
// nothing here sends one.
func readHead(in *bufio.Reader) ([]byte, error) {
	for want := 1; ; {
		if _, err := in.Peek(want); err != nil {
			return nil, err
		}
		seen, _ := in.Peek(in.Buffered())
		if end := bytes.Index(seen, []byte("\r\n\r\n")); end >= 0 {
			_, err := in.Discard(end + 4)
			return seen[:end+4], err
		}
		if want = len(seen) + 1; want > in.Size() {
			return nil, errTooLong
		}
	}
}

// set changes the answers to the questions from now on.
func (o *origin) set(a answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answer = a
}

// recorded runs f and returns the heads that came meanwhile.
func (o *origin) recorded(f func()) []head {
	o.mu.Lock()
	o.record, o.heads = true, nil
	o.mu.Unlock()
	f()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.record = false
	return o.heads
}

// line returns the method and the target of a request.
func (h head) line() (method, target string) {
	first, _, _ := strings.Cut(string(h), "\r\n")
	method, rest, _ := strings.Cut(first, " ")
	target, _, _ = strings.Cut(rest, " ")
	return method, target
}

// values are those of all headers that some server takes for name: case, "_"
// and "." are no difference.
func (h head) values(name string) []string {
	var found []string
	lines := strings.Split(string(h), "\r\n")
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, ":")
		if foldName(key) == foldName(name) {
			found = append(found, strings.TrimSpace(value))
		}
	}
	return found
}

func foldName(name string) string {
	return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(strings.TrimSpace(name)))
}

// say answers always the same. The bytes are written as they are.
func say(response string) answer {
	bytes := []byte(response)
	return func(c net.Conn, _ int) bool {
		_, err := c.Write(bytes)
		return err == nil
	}
}

// The answers of the auth service.
var (
	allow  = say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	refuse = say("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
)

// slowly allows after a time. It is the service that is slow, so it sleeps.
func slowly(d time.Duration) answer {
	return func(c net.Conn, n int) bool {
		time.Sleep(d)
		return allow(c, n)
	}
}

// hang never answers. It ends when the other side closes.
func hang(c net.Conn, _ int) bool {
	_, _ = c.Read(make([]byte, 1))
	return false
}

// once allows on a new connection, and closes it as soon as it is used again: the
// worst that the race of an idle connection's end can do.
func once(c net.Conn, n int) bool { return n == 0 && allow(c, n) }

// reset breaks every connection after the question.
func reset(c net.Conn, _ int) bool {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return false
}

// drip begins an answer and never ends its headers.
func drip(c net.Conn, n int) bool {
	_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nX-A"))
	return hang(c, n)
}

// flood allows, with a body that has no end.
func flood(c net.Conn, _ int) bool {
	chunk := bytes.Repeat([]byte("a"), 32<<10)
	_, err := c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	for err == nil {
		_, err = c.Write(chunk)
	}
	return false
}

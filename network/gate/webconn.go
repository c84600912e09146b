package gate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// webConn is a sandbox's connection that is served request by request.
type webConn struct {
	net.Conn  // of the sandbox
	gate      *Gate
	flow      *flow
	name      string // the one that the gate plays, "" without TLS
	servers   *http.Transport
	from      io.Reader // what was read already, and then the rest
	up, down  atomic.Int64
	closing   sync.Once
	over      chan struct{}
	lastEvent atomic.Pointer[Event]
}

// serveWeb serves a connection to its end: what was read of it is read again.
func (g *Gate) serveWeb(f *flow, conn *net.TCPConn, said opening, name string, a *authority) {
	c := &webConn{
		Conn: conn, gate: g, flow: f, name: name, over: make(chan struct{}),
		from: io.MultiReader(bytes.NewReader(said.bytes), conn),
	}
	c.servers = &http.Transport{
		DialContext:           c.dial,
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       &tls.Config{RootCAs: g.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       keepTimeout,
		MaxConnsPerHost:       maxServers,
		MaxIdleConnsPerHost:   8,
	}
	var served net.Conn = c
	if a != nil {
		served = tls.Server(c, &tls.Config{
			NextProtos:     []string{"h2", "http/1.1"},
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.leaf(name) },
		})
	}
	select {
	case g.served.conns <- served:
		<-c.over
	case <-g.ctx.Done():
		_ = c.Close()
	}
	c.servers.CloseIdleConnections()
	if last := c.lastEvent.Load(); last != nil {
		event := *last
		event.Up, event.Down, event.Ended = c.up.Load(), c.down.Load(), true
		g.observe(event)
	}
}

func (c *webConn) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.up.Add(int64(n))
	return n, err
}

func (c *webConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.down.Add(int64(n))
	return n, err
}

// Close is of the web server, or of who took the connection over from it.
func (c *webConn) Close() error {
	err := c.Conn.Close()
	c.closing.Do(func() { close(c.over) })
	return err
}

// dial is asked for a server by the host of a URL. It decides again, for that is
// cheap, and nothing can be mixed up on the way.
func (c *webConn) dial(ctx context.Context, _, address string) (net.Conn, error) {
	name := canonical(hostOf(address))
	rules, v := c.flow.decide(c.gate, name)
	if !v.allowed {
		return nil, errNowhere
	}
	kind := KindHTTP
	if c.name != "" {
		kind = KindTLS
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stop := context.AfterFunc(c.flow.ctx, cancel)
	defer stop()
	s := c.flow.sandbox
	if !s.takeServer(c.gate.config.MaxConnections) {
		c.gate.refuse(c.flow, kind, name, verdict{rule: ruleLimit})
		return nil, errTooMany
	}
	server, at, err := c.gate.dial(ctx, c.flow, rules, name, v)
	event := Event{Sandbox: s.id, Kind: kind, Name: name, Address: at.Addr(), Port: at.Port(), Allowed: true, Rule: v.rule}
	if err != nil {
		s.giveServer()
		event.Allowed, event.Rule = !errors.Is(err, errNowhere), ruleOf(err, v)
		c.gate.observe(event)
		return nil, err
	}
	c.lastEvent.Store(&event)
	c.gate.observe(event)
	return &counted{Conn: server, close: sync.OnceFunc(s.giveServer)}, nil
}

// counted is a connection to a server that is given back when it closes.
type counted struct {
	net.Conn
	close func()
}

func (c *counted) Close() error {
	c.close()
	return c.Conn.Close()
}

// untrusted tells whether a server's certificate was the trouble.
func untrusted(err error) (*tls.CertificateVerificationError, bool) {
	return errors.AsType[*tls.CertificateVerificationError](err)
}

// handOver is the listener of connections that others have accepted.
type handOver struct {
	conns chan net.Conn
	ended chan struct{}
	end   sync.Once
}

func newHandOver() *handOver {
	return &handOver{conns: make(chan net.Conn), ended: make(chan struct{})}
}

func (h *handOver) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.ended:
		return nil, net.ErrClosed
	}
}

func (h *handOver) Close() error {
	h.end.Do(func() { close(h.ended) })
	return nil
}

func (h *handOver) Addr() net.Addr { return &net.TCPAddr{} }

// Package nameserver answers DNS questions for one domain: every name at and
// below it is the server. It exists for machines that have no wildcard DNS.
//
// It must never answer for another name, ask anybody else, or send more than a
// few bytes beyond what it was sent: a server that does is a weapon.
package nameserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// ttl is how long an answer may be remembered, in seconds.
	ttl = 60
	// maxQuestion bounds a question: one name and EDNS take far less.
	maxQuestion = 1232
	// maxConnections, tcpTimeout and maxPerConnection bound what clients hold.
	maxConnections   = 64
	maxPerConnection = 128
	tcpTimeout       = 5 * time.Second
)

// Server answers on UDP and TCP.
type Server struct {
	domain string // "cube.test."
	addr   netip.Addr
	packet net.PacketConn
	stream net.Listener
	slots  chan struct{} // of TCP connections
	all    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	open   map[net.Conn]bool
	closed bool
}

// Listen begins to answer that a domain, given in lower case, and all names
// below it have an address.
func Listen(bind, domain string, addr netip.Addr) (*Server, error) {
	s := &Server{domain: domain + ".", addr: addr, slots: make(chan struct{}, maxConnections), open: map[net.Conn]bool{}}
	var err error
	// A port of 0 is free for both only by luck: try a few.
	for range 10 {
		if s.packet, err = net.ListenPacket("udp", bind); err != nil {
			break
		}
		host, _, _ := net.SplitHostPort(bind)
		_, port, _ := net.SplitHostPort(s.packet.LocalAddr().String())
		if s.stream, err = net.Listen("tcp", net.JoinHostPort(host, port)); err == nil {
			s.all.Go(s.servePackets)
			s.all.Go(s.serveStreams)
			return s, nil
		}
		_ = s.packet.Close()
	}
	return nil, fmt.Errorf("listening for DNS on %s (is another name server there? choose another address with --dns-bind): %w", bind, err)
}

// Addr is where the server listens, on both protocols.
func (s *Server) Addr() net.Addr { return s.packet.LocalAddr() }

// Close ends the server and its connections.
func (s *Server) Close() {
	_, _ = s.packet.Close(), s.stream.Close()
	s.mu.Lock()
	s.closed = true
	for conn := range s.open {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.all.Wait()
}

func (s *Server) servePackets() {
	buffer := make([]byte, maxQuestion+1)
	for {
		n, from, err := s.packet.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n > maxQuestion {
			continue
		}
		if answer := s.answer(buffer[:n]); answer != nil {
			_, _ = s.packet.WriteTo(answer, from)
		}
	}
}

func (s *Server) serveStreams() {
	for {
		conn, err := s.stream.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of file descriptors, say
			continue
		}
		select {
		case s.slots <- struct{}{}:
			s.all.Go(func() {
				defer func() { <-s.slots }()
				s.serveStream(conn)
			})
		default:
			_ = conn.Close()
		}
	}
}

func (s *Server) serveStream(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.open[conn] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.open, conn)
		s.mu.Unlock()
	}()
	buffer := make([]byte, maxQuestion)
	for range maxPerConnection {
		_ = conn.SetDeadline(time.Now().Add(tcpTimeout))
		if _, err := io.ReadFull(conn, buffer[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(buffer))
		if n > len(buffer) {
			return
		}
		if _, err := io.ReadFull(conn, buffer[:n]); err != nil {
			return
		}
		answer := s.answer(buffer[:n])
		if answer == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil { //nolint:gosec // never near 64 KiB
			return
		}
	}
}

// answer answers one question, nil for what is none: whoever sends an answer, or
// nonsense, gets nothing. A question for another domain is refused.
func (s *Server) answer(question []byte) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(question)
	if err != nil || header.Response {
		return nil
	}
	q, err := parser.Question()
	if err != nil {
		return nil
	}
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, OpCode: header.OpCode, RecursionDesired: header.RecursionDesired},
		Questions: []dnsmessage.Question{q},
	}
	name := strings.ToLower(q.Name.String())
	_, more := parser.Question()
	switch {
	case header.OpCode != 0:
		answer.RCode = dnsmessage.RCodeNotImplemented
	case !errors.Is(more, dnsmessage.ErrSectionDone):
		answer.RCode = dnsmessage.RCodeFormatError
	case q.Class != dnsmessage.ClassINET, name != s.domain && !strings.HasSuffix(name, "."+s.domain):
		answer.RCode = dnsmessage.RCodeRefused
	default:
		answer.Authoritative = true
		answer.Answers = s.records(q)
	}
	packed, err := answer.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// records are at most one: a name of another type is there, and has none.
func (s *Server) records(q dnsmessage.Question) []dnsmessage.Resource {
	var body dnsmessage.ResourceBody
	switch {
	case q.Type == dnsmessage.TypeA && s.addr.Is4():
		body = &dnsmessage.AResource{A: s.addr.As4()}
	case q.Type == dnsmessage.TypeAAAA && s.addr.Is6():
		body = &dnsmessage.AAAAResource{AAAA: s.addr.As16()}
	default:
		return nil
	}
	return []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: ttl}, Body: body}}
}

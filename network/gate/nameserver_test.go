package gate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers what the test says, and counts.
type nameServer struct {
	addr  netip.AddrPort
	mu    sync.Mutex
	names map[string]string // name -> addresses, or "=" and an alias
	asked map[string]int
	mute  bool
	short bool // by UDP it says that answers do not fit
}

func newNameServer(t testing.TB, names map[string]string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := &nameServer{addr: netip.MustParseAddrPort(conn.LocalAddr().String()), names: names, asked: map[string]int{}}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			var message dnsmessage.Message
			if err != nil || message.Unpack(buffer[:n]) != nil {
				continue
			}
			if answer := s.answer(&message, "udp"); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return s
}

// serveTCP answers by TCP too, and by UDP says that it must be.
func (s *nameServer) serveTCP(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", s.addr.String())
	if err != nil {
		t.Skipf("the port is taken: %v", err)
	}
	s.mu.Lock()
	s.short = true
	s.mu.Unlock()
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 4096)
			var message dnsmessage.Message
			if n, err := conn.Read(buffer); err == nil && message.Unpack(buffer[2:n]) == nil { // written at once
				answer := s.answer(&message, "tcp")
				_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
			_ = conn.Close()
		}
	}()
}

func (s *nameServer) set(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name] = value
}

func (s *nameServer) silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = true
}

func (s *nameServer) count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name]
}

func (s *nameServer) answer(message *dnsmessage.Message, network string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := message.Questions[0]
	name := trimDot(q.Name)
	s.asked[name]++
	if s.mute {
		return nil
	}
	message.Response, message.Additionals = true, nil
	if message.Truncated = s.short && network == "udp"; message.Truncated {
		packed, _ := message.Pack()
		return packed
	}
	owner := q.Name
	for range 8 {
		value, ok := s.names[trimDot(owner)]
		if !ok {
			message.RCode = dnsmessage.RCodeNameError
			break
		}
		header := dnsmessage.ResourceHeader{Name: owner, Class: dnsmessage.ClassINET, TTL: 60}
		if alias, ok := strings.CutPrefix(value, "="); ok {
			target := dnsmessage.MustNewName(alias + ".")
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: target}})
			owner = target
			continue
		}
		for text := range strings.FieldsSeq(value) {
			addr := netip.MustParseAddr(text)
			switch {
			case addr.Is4() && q.Type == dnsmessage.TypeA:
				message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
			case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
				message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
			}
		}
		break
	}
	packed, err := message.Pack()
	if err != nil {
		panic(err)
	}
	return packed
}

// lookUp asks the gate as a guest does.
func (w *world) lookUp(guest, network, name string, kind dnsmessage.Type) *dnsmessage.Message {
	w.t.Helper()
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET}},
	}
	packed, err := message.Pack()
	if err != nil {
		w.t.Fatal(err)
	}
	answer := w.exchange(guest, network, packed)
	if err := message.Unpack(answer); err != nil {
		w.t.Fatal(err)
	}
	return &message
}

// exchange sends bytes as a question and returns what comes back.
func (w *world) exchange(guest, network string, packed []byte) []byte {
	w.t.Helper()
	var local net.Addr = &net.UDPAddr{IP: net.ParseIP(guest)}
	if network == "tcp" {
		local = &net.TCPAddr{IP: net.ParseIP(guest)}
		packed = append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
	}
	dialer := net.Dialer{LocalAddr: local}
	ctx, cancel := context.WithTimeout(w.t.Context(), patient)
	defer cancel()
	conn, err := dialer.DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", w.gate.NamePort()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patient))
	if _, err := conn.Write(packed); err != nil {
		w.t.Fatal(err)
	}
	buffer := make([]byte, 1<<16)
	if network == "tcp" {
		if _, err := io.ReadFull(conn, buffer[:2]); err != nil {
			w.t.Fatal(err)
		}
		n := int(binary.BigEndian.Uint16(buffer))
		if _, err := io.ReadFull(conn, buffer[:n]); err != nil {
			w.t.Fatal(err)
		}
		return buffer[:n]
	}
	n, err := conn.Read(buffer)
	if err != nil {
		w.t.Fatal(err)
	}
	return buffer[:n]
}

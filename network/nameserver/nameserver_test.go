package nameserver

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var here = netip.MustParseAddr("127.0.0.1")

func question(t testing.TB, name string, kind dnsmessage.Type, change func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	if change != nil {
		change(&m)
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestAnswers(t *testing.T) {
	s := &Server{domain: "cube.test.", addr: here}
	for _, row := range []struct {
		name    string
		kind    dnsmessage.Type
		change  func(*dnsmessage.Message)
		code    dnsmessage.RCode
		answers int
	}{
		{"49983-abc.cube.test.", dnsmessage.TypeA, nil, dnsmessage.RCodeSuccess, 1},
		{"API.Cube.Test.", dnsmessage.TypeA, nil, dnsmessage.RCodeSuccess, 1},
		{"cube.test.", dnsmessage.TypeA, nil, dnsmessage.RCodeSuccess, 1},
		{"cube.test.", dnsmessage.TypeAAAA, nil, dnsmessage.RCodeSuccess, 0},
		{"cube.test.", dnsmessage.TypeALL, nil, dnsmessage.RCodeSuccess, 0},
		{"e2b.app.", dnsmessage.TypeA, nil, dnsmessage.RCodeRefused, 0},
		{"notcube.test.", dnsmessage.TypeA, nil, dnsmessage.RCodeRefused, 0},
		{".", dnsmessage.TypeNS, nil, dnsmessage.RCodeRefused, 0},
		{"cube.test.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }, dnsmessage.RCodeRefused, 0},
		{"cube.test.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }, dnsmessage.RCodeFormatError, 0},
		{"cube.test.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.OpCode = 5 }, dnsmessage.RCodeNotImplemented, 0},
	} {
		var answer dnsmessage.Message
		if err := answer.Unpack(s.answer(question(t, row.name, row.kind, row.change))); err != nil {
			t.Fatal(err)
		}
		if answer.ID != 7 || !answer.Response || answer.RecursionAvailable || answer.RCode != row.code || len(answer.Answers) != row.answers {
			t.Errorf("%s %v: %+v", row.name, row.kind, answer)
		}
	}
	for name, data := range map[string][]byte{
		"nonsense":    []byte("nonsense"),
		"nothing":     nil,
		"an answer":   question(t, "cube.test.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Response = true }),
		"no question": question(t, "cube.test.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions = nil }),
	} {
		if got := s.answer(data); got != nil {
			t.Errorf("%s is answered: %x", name, got)
		}
	}
}

func TestBothProtocols(t *testing.T) {
	s, err := Listen("127.0.0.1:0", "cube.test", here)
	if err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"udp", "tcp"} {
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, protocol, s.Addr().String())
		}}
		found, err := resolver.LookupHost(t.Context(), "8000-x.cube.test.")
		if err != nil || len(found) != 1 || found[0] != "127.0.0.1" {
			t.Errorf("%s: %v, %v", protocol, found, err)
		}
	}
	// A client that says nothing must not keep the server from ending.
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	q := question(t, "cube.test.", dnsmessage.TypeA, nil)
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Error("the connection is open still: ", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(question(f, "a.cube.test.", dnsmessage.TypeA, nil))
	f.Add([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	s := &Server{domain: "cube.test.", addr: here}
	f.Fuzz(func(t *testing.T, data []byte) {
		answer := s.answer(data)
		if answer == nil {
			return
		}
		// A name that the question compresses may be written out, once.
		if len(answer) > len(data)+255+64 {
			t.Errorf("%d bytes are answered with %d", len(data), len(answer))
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil || !m.Response || len(m.Answers) > 1 {
			t.Errorf("%x: %+v, %v", data, m, err)
		}
	})
}

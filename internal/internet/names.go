package internet

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const maxMessage = 4096

// Question is one that somebody has asked a name server.
type Question struct {
	Server string // its address
	Way    string // udp, tcp, tls, https
	Name   string // without the last dot, in small letters
}

// Asked are all of them, in their order.
func (i *Internet) Asked() []Question {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.asked)
}

// SetName says where a name is from now on, or "*.name" for all below it that have
// no answer of their own; without addresses it is nowhere.
func (i *Internet) SetName(name string, addresses ...string) {
	var addrs []netip.Addr
	for _, a := range addresses {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.zone[strings.ToLower(name)] = addrs
}

// serveNames answers for all names on UDP, TCP and TLS. HTTPS is the web's.
func (i *Internet) serveNames() error {
	for _, p := range places {
		if !p.resolves {
			continue
		}
		conn, err := i.ListenPacket("udp4", net.JoinHostPort(p.addr, "53"))
		if err != nil {
			return err
		}
		i.closers = append(i.closers, conn)
		i.all.Go(func() {
			buffer := make([]byte, maxMessage)
			for {
				n, from, err := conn.ReadFrom(buffer)
				if err != nil {
					return
				}
				if answer := i.answer(buffer[:n], p.addr, "udp"); answer != nil {
					_, _ = conn.WriteTo(answer, from)
				}
			}
		})
		stream := func(way string) func(net.Conn) {
			return func(c net.Conn) { i.answerStream(c, p.addr, way) }
		}
		if err := i.serveStream("tcp4", net.JoinHostPort(p.addr, "53"), false, stream("tcp")); err != nil {
			return err
		}
		if err := i.serveStream("tcp4", net.JoinHostPort(p.addr, "853"), true, stream("tls")); err != nil {
			return err
		}
	}
	return nil
}

// answerStream answers questions with their length before them.
func (i *Internet) answerStream(c net.Conn, server, way string) {
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		answer := i.answer(question, server, way)
		if answer == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil { //nolint:gosec // short
			return
		}
	}
}

// answer answers one question, nil for what is none.
func (i *Internet) answer(question []byte, server, way string) []byte {
	var message dnsmessage.Message
	if message.Unpack(question) != nil || len(message.Questions) != 1 || message.Response {
		return nil
	}
	q := message.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	i.mu.Lock()
	i.asked = append(i.asked, Question{server, way, name})
	addrs, known := i.zone[name]
	for parent := name; !known && parent != ""; {
		_, parent, _ = strings.Cut(parent, ".")
		addrs, known = i.zone["*."+parent]
	}
	i.mu.Unlock()
	message.Response, message.RecursionAvailable, message.Additionals = true, true, nil
	if !known {
		message.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range addrs {
		header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
		switch {
		case q.Type == dnsmessage.TypeA && addr.Is4():
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		case q.Type == dnsmessage.TypeAAAA && addr.Is6():
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	packed, err := message.Pack()
	if err != nil {
		return nil
	}
	return packed
}

package gate

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// udpSize is what is sent and taken in one packet: RFC 9715.
	udpSize     = 1232
	maxAttempts = 6
	maxMessage  = 16 << 10 // of an answer by TCP
)

// exchange asks the name servers one after the other, and the next already while
// one keeps it waiting. What nobody answers is SERVFAIL.
func (r *resolver) exchange(ctx context.Context, q question) *answer {
	nobody := &answer{code: dnsmessage.RCodeServerFailure, at: time.Now(), ttl: troubleTime}
	servers := r.upstreams()
	if len(servers) == 0 {
		return nobody
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan *answer, maxAttempts)
	wake := time.NewTimer(0)
	defer wake.Stop()
	asked, open := 0, 0
	for {
		select {
		case <-wake.C:
			if asked < min(maxAttempts, 3*len(servers)) {
				server := servers[asked%len(servers)]
				go func() { answers <- r.askServer(ctx, server, q) }()
				asked, open = asked+1, open+1
				wake.Reset(r.headStart)
			}
		case a := <-answers:
			open--
			if a != nil {
				return a
			}
			if asked >= len(servers) && open == 0 { // each has failed at once
				return nobody
			}
			wake.Reset(0)
		case <-ctx.Done():
			return nobody
		}
	}
}

// askServer asks one server, by UDP and if the answer does not fit by TCP. nil is
// for one that has none.
func (r *resolver) askServer(ctx context.Context, server netip.AddrPort, q question) *answer {
	select {
	case r.sockets <- struct{}{}:
		defer func() { <-r.sockets }()
	case <-ctx.Done():
		return nil
	}
	for _, network := range []string{"udp", "tcp"} {
		message, err := converse(ctx, network, server, q)
		if err != nil {
			return nil
		}
		if message.Truncated && network == "udp" {
			continue
		}
		if message.RCode != dnsmessage.RCodeSuccess && message.RCode != dnsmessage.RCodeNameError {
			return nil
		}
		return keep(message, q)
	}
	return nil
}

var errForeign = errors.New("an answer to something else")

// converse sends one question from a port of its own, and waits for its answer:
// what answers anything else may be forged, and is passed over.
func converse(ctx context.Context, network string, server netip.AddrPort, q question) (*dnsmessage.Message, error) {
	id, packed, err := packQuestion(q)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "tcp" {
		packed = append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...) //nolint:gosec // one question
	}
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	if network == "tcp" {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return nil, err
		}
		answer := make([]byte, min(int(binary.BigEndian.Uint16(length[:])), maxMessage))
		if _, err := io.ReadFull(conn, answer); err != nil {
			return nil, err
		}
		return parseAnswer(answer, id, q)
	}
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		if message, err := parseAnswer(buffer[:n], id, q); err == nil {
			return message, nil
		}
	}
}

func packQuestion(q question) (id uint16, packed []byte, err error) {
	var random [2]byte
	_, _ = rand.Read(random[:]) // it never fails
	id = binary.BigEndian.Uint16(random[:])
	name, err := dnsmessage.NewName(q.name + ".")
	if err != nil {
		return 0, nil, err
	}
	edns := dnsmessage.Resource{Body: &dnsmessage.OPTResource{}}
	if err := edns.Header.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false); err != nil {
		return 0, nil, err
	}
	message := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions:   []dnsmessage.Question{{Name: name, Type: q.kind, Class: dnsmessage.ClassINET}},
		Additionals: []dnsmessage.Resource{edns},
	}
	packed, err = message.Pack()
	return id, packed, err
}

func parseAnswer(data []byte, id uint16, q question) (*dnsmessage.Message, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(data)
	if err != nil {
		return nil, err
	}
	asked, err := parser.Question()
	if err != nil {
		return nil, err
	}
	if header.ID != id || !header.Response || asked.Type != q.kind || !strings.EqualFold(trimDot(asked.Name), q.name) {
		return nil, errForeign
	}
	message := &dnsmessage.Message{Header: header}
	if header.Truncated {
		return message, nil
	}
	if err := parser.SkipAllQuestions(); err != nil {
		return nil, err
	}
	if message.Answers, err = parser.AllAnswers(); err != nil {
		return nil, err
	}
	message.Authorities, err = parser.AllAuthorities()
	return message, err
}

// systemUpstreams are the name servers of this machine, read again when the file
// changes: a machine moves between networks.
func systemUpstreams() func() []netip.AddrPort {
	const file = "/etc/resolv.conf"
	var mu sync.Mutex
	var looked, changed time.Time
	var servers []netip.AddrPort
	return func() []netip.AddrPort {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(looked) < time.Second {
			return slices.Clone(servers)
		}
		looked = time.Now()
		info, err := os.Stat(file)
		if err != nil || info.ModTime().Equal(changed) {
			return slices.Clone(servers)
		}
		if f, err := os.Open(file); err == nil {
			servers, changed = readUpstreams(f), info.ModTime()
			_ = f.Close()
		}
		return slices.Clone(servers)
	}
}

// readUpstreams reads resolv.conf(5).
func readUpstreams(from io.Reader) (servers []netip.AddrPort) {
	lines := bufio.NewScanner(from)
	for lines.Scan() && len(servers) < 3 {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(addr, 53))
		}
	}
	return servers
}

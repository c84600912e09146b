package gate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// maxOpening bounds a client's first message: a TLS one with keys for times after
// quantum computers takes 2 KiB.
const maxOpening = 32 << 10

// opening is what a client said first.
type opening struct {
	kind  Kind
	name  string // canonical, "" for none
	bytes []byte // all that was read
}

var errOpening = errors.New("the client's first message is too long")

// sniff reads as much as tells the protocol and the name. It fails if the client
// closes; one that says nothing within patience has the kind KindTCP and no name.
func sniff(conn net.Conn, patience, most time.Duration) (opening, error) {
	start := time.Now()
	_ = conn.SetReadDeadline(start.Add(patience))
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	seen := &recorder{conn: conn}
	first := make([]byte, 4096)
	n, err := seen.Read(first)
	if n == 0 {
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return opening{kind: KindTCP}, nil
		}
		return opening{}, err
	}
	_ = conn.SetReadDeadline(start.Add(most))
	if seen.bytes[0] == recordHandshake {
		name := helloName(seen)
		return opening{kind: KindTLS, name: name, bytes: seen.bytes}, seen.refused
	}
	for looksLikeRequest(seen.bytes) == perhaps {
		if _, err := seen.Read(first); err != nil {
			break
		}
	}
	if looksLikeRequest(seen.bytes) != yes {
		return opening{kind: KindTCP, bytes: seen.bytes}, seen.refused
	}
	return opening{kind: KindHTTP, bytes: seen.bytes}, nil
}

// recordHandshake is the first byte of a TLS client's: RFC 8446, 5.1.
const recordHandshake = 0x16

// recorder keeps what is read and lets nothing be written.
type recorder struct {
	conn    net.Conn
	bytes   []byte
	refused error
}

func (r *recorder) Read(p []byte) (int, error) {
	room := maxOpening - len(r.bytes)
	if room <= 0 {
		r.refused = errOpening
		return 0, errOpening
	}
	n, err := r.conn.Read(p[:min(len(p), room)])
	r.bytes = append(r.bytes, p[:n]...)
	return n, err
}

// again reads what was read once more, and then the rest.
type again struct {
	net.Conn // nothing else of it is used
	from     io.Reader
}

func (a again) Read(p []byte) (int, error)      { return a.from.Read(p) }
func (a again) Write(p []byte) (int, error)     { return len(p), nil }
func (a again) SetDeadline(time.Time) error     { return nil }
func (a again) SetReadDeadline(time.Time) error { return nil }

var errSeen = errors.New("seen")

// helloName is the name in a TLS client's first message, which may come in many
// pieces. With an encrypted one inside it (ECH) it is the outer name, for that is
// where the connection goes. What is no such message has none.
func helloName(seen *recorder) (name string) {
	from := io.MultiReader(bytes.NewReader(bytes.Clone(seen.bytes)), seen)
	server := tls.Server(again{Conn: seen.conn, from: from}, &tls.Config{
		MinVersion: tls.VersionTLS10, //nolint:gosec // nothing is encrypted here
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name = canonical(hello.ServerName)
			return nil, errSeen
		},
	})
	_ = server.HandshakeContext(context.Background())
	return name
}

type likeness int

const (
	no likeness = iota
	perhaps
	yes
)

// looksLikeRequest tells whether bytes begin an HTTP/1 request: a method and a
// space. HTTP/2 without TLS ("PRI * HTTP/2.0") is none: who speaks it says no name.
func looksLikeRequest(data []byte) likeness {
	const longestMethod = 24
	for i, c := range data {
		switch {
		case i > longestMethod:
			return no
		case c == ' ' && string(data[:i]) == "PRI":
			return no
		case c == ' ' && i > 0:
			return yes
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '-', c == '_':
		default:
			return no
		}
	}
	return perhaps
}

// requestName is the Host of a request of which the beginning is known, for the
// log alone.
func requestName(data []byte) string {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
	if err != nil {
		return ""
	}
	return canonical(hostOf(r.Host))
}

// hostOf is an authority without its port.
func hostOf(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return authority
}

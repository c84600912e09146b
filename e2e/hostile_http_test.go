package e2e

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// hostileServer answers by the path, in ways in which no server should.
const hostileServer = `
import socket, threading
OK = b"HTTP/1.1 200 OK\r\n"
def forever(c, start, piece):
    c.sendall(start)
    while True: c.sendall(piece)
def serve(c):
    try:
        request = b""
        while b"\r\n\r\n" not in request:
            data = c.recv(65536)
            if not data: return
            request += data
        path = request.split(b" ")[1]
        if path == b"/ok": c.sendall(OK + b"Content-Length: 4\r\nConnection: close\r\n\r\nfine")
        elif path == b"/headers": forever(c, OK, b"X-A: " + b"a" * 1000 + b"\r\n")
        elif path == b"/header": forever(c, OK + b"X-A: ", b"a" * 65536)
        elif path == b"/body": forever(c, OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"a" * 65536 + b"\r\n")
        elif path == b"/raw": forever(c, OK + b"Connection: close\r\n\r\n", b"a" * 65536)
        elif path == b"/chunk": forever(c, OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1" * 65536)
        elif path == b"/extension": forever(c, OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 65536)
        elif path == b"/trailers": forever(c, OK + b"Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n0\r\n", b"X-A: a\r\n" * 8192)
        elif path == b"/hints": forever(c, b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        elif path == b"/long": c.sendall(OK + b"Content-Length: 1000000\r\n\r\nshort")
        elif path == b"/short": c.sendall(OK + b"Content-Length: 5\r\n\r\nhello" + OK + b"Content-Length: 4\r\n\r\nevil"); c.recv(1)
        elif path == b"/lengths": c.sendall(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
        elif path == b"/negative": c.sendall(OK + b"Content-Length: -5\r\n\r\nhello")
        elif path == b"/both": c.sendall(OK + b"Content-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"); c.recv(1)
        elif path == b"/switch": c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"); c.recv(1)
        elif path == b"/status": c.sendall(b"HTTP/1.1 -1 x\r\n\r\n")
        elif path == b"/noise": forever(c, b"", bytes(range(256)) * 256)
        elif path == b"/claims": c.sendall(OK + b"X-Request-Id: forged\r\nContent-Length: 0\r\n\r\n"); c.recv(1)
        elif path == b"/nothing": return
    except OSError: pass
    finally: c.close()
s = socket.create_server(("127.0.0.1", 8000), backlog=128)
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
`

// TestHostileServer lets a server inside answer with what breaks proxies.
func TestHostileServer(t *testing.T) {
	a := openArena(t)
	attacker := a.create()
	script := base64.StdEncoding.EncodeToString([]byte(hostileServer))
	a.shell(attacker, "user", fmt.Sprintf("echo %s | base64 -d > /tmp/server.py; setsid python3 /tmp/server.py >/dev/null 2>&1 </dev/null &", script))
	host := "8000-" + attacker.SandboxID + ".localhost"
	get := func(t *testing.T, path string) (*http.Response, error) {
		conn := dial(t, a.server)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
		return http.ReadResponse(bufio.NewReader(conn), nil)
	}
	for deadline := time.Now().Add(answerWithin); ; time.Sleep(10 * time.Millisecond) {
		if resp, err := get(t, "/ok"); err == nil && resp.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the server inside does not start")
		}
	}
	const endless = -1 // the client reads some of it and goes
	for _, row := range []struct {
		path   string
		status int
		body   string
		length int  // of the body, or endless
		broken bool // the body must not end as if it were whole
	}{
		{path: "/headers", status: 502},
		{path: "/header", status: 502},
		{path: "/body", status: 200, length: endless},
		{path: "/raw", status: 200, length: endless},
		{path: "/chunk", status: 200, broken: true},
		{path: "/extension", status: 200, broken: true},
		{path: "/trailers", status: 200, broken: true},
		{path: "/long", status: 200, body: "short", broken: true},
		{path: "/short", status: 200, body: "hello"},
		{path: "/lengths", status: 502},
		{path: "/negative", status: 502},
		{path: "/both", status: 200, body: "hello"},
		{path: "/switch", status: 502},
		{path: "/status", status: 502},
		{path: "/noise", status: 502},
		{path: "/nothing", status: 502},
		{path: "/claims", status: 200},
	} {
		a.attack(t, row.path[1:], func(t *testing.T, _ sandbox) {
			resp, err := get(t, row.path)
			if row.broken && errors.Is(err, io.ErrUnexpectedEOF) {
				return // what breaks at once may be cut off before its head is out
			}
			if err != nil || resp.StatusCode != row.status {
				t.Fatalf("%v, %v; want %d", resp, err, row.status)
			}
			if id := resp.Header["X-Request-Id"]; len(id) != 1 || id[0] == "forged" {
				t.Errorf("it speaks in the server's name: X-Request-Id is %q", id)
			}
			if row.length == endless {
				if _, err := io.CopyN(io.Discard, resp.Body, 64<<20); err != nil {
					t.Errorf("a stream of 64 MB breaks off: %v", err)
				}
				return
			}
			body, err := io.ReadAll(resp.Body)
			if row.status == 200 && (string(body) != row.body || (err != nil) != row.broken) {
				t.Errorf("the body is %.100q, %v; want %q, broken %v", body, err, row.body, row.broken)
			}
			// What else it sent on that connection must be nobody's answer.
			for range 3 {
				if resp, err := get(t, "/ok"); err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("the next request is answered with %v, %v", resp, err)
				}
			}
		})
	}
	a.attack(t, "early hints without end", func(t *testing.T, _ sandbox) {
		conn := dial(t, a.server)
		fmt.Fprintf(conn, "GET /hints HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		_, _ = io.CopyN(io.Discard, conn, 1<<20) // cut off, or as the client likes
	})
	a.attack(t, "100 clients of a body without end who stopped reading", func(t *testing.T, _ sandbox) {
		for range 100 {
			conn := dial(t, a.server)
			fmt.Fprintf(conn, "GET /body HTTP/1.1\r\nHost: %s\r\n\r\n", host)
			if _, err := conn.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

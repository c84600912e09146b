package e2e

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends bytes as they are and returns the answer.
func raw(t *testing.T, s *server, request string) *http.Response {
	t.Helper()
	conn := dial(t, s)
	go func() { _, _ = io.WriteString(conn, request) }() // a refusal may come before all is sent
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	return resp
}

// insideServer is a server inside: it greets over HTTP, counts in a stream, and
// echoes over WebSocket.
const insideServer = `
import base64, hashlib, http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket":
            accept = base64.b64encode(hashlib.sha1((self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
            self.send_response(101)
            for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
                self.send_header(name, value)
            self.end_headers()
            while True:
                data = self.connection.recv(100)
                if not data:
                    return
                self.connection.sendall(data)
        self.send_response(200)
        if self.path == "/stream":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for n in range(1000):
                self.wfile.write(b"2\r\n%d\n\r\n" % (n % 10))
                self.wfile.flush()
                time.sleep(1 if n else 0.01)
        body = (self.headers.get("Host") + " " + str(self.headers.get("X-API-Key"))).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
`

// TestTraffic reaches a server inside in every way that a client may.
func TestTraffic(t *testing.T) {
	s := start(t)
	created := s.create()
	script := base64.StdEncoding.EncodeToString([]byte(insideServer))
	s.command(created, fmt.Sprintf("echo %s | base64 -d > /tmp/server.py; setsid python3 /tmp/server.py >/dev/null 2>&1 </dev/null &", script))
	host := "8000-" + created.SandboxID + ".localhost"
	deadline := time.Now().Add(2 * time.Minute)
	for raw(t, s, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n").StatusCode != 200 {
		if time.Now().After(deadline) {
			t.Fatal("the server inside does not start")
		}
	}

	t.Run("by host name, which it sees, and without the API's key", func(t *testing.T) {
		resp := raw(t, s, "GET / HTTP/1.1\r\nHost: "+host+"\r\nX-API-Key: secret\r\n\r\n")
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != host+" None" {
			t.Errorf("%s %q, %v", resp.Status, body, err)
		}
	})
	t.Run("over HTTP/2 cleartext", func(t *testing.T) {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		req, err := http.NewRequest("GET", s.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("E2b-Sandbox-Id", created.SandboxID)
		req.Header.Set("E2b-Sandbox-Port", "8000")
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != 200 {
			t.Errorf("%s %s", resp.Proto, resp.Status)
		}
	})
	t.Run("over WebSocket", func(t *testing.T) {
		key := base64.StdEncoding.EncodeToString([]byte(rand.Text()[:16]))
		conn := dial(t, s)
		fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", host, key)
		reader := bufio.NewReader(conn)
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455, section 4.2.2
		if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
			t.Fatalf("%s %v", resp.Status, resp.Header)
		}
		for _, message := range []string{"one", "two"} {
			if _, err := io.WriteString(conn, message); err != nil {
				t.Fatal(err)
			}
			echo := make([]byte, len(message))
			if _, err := io.ReadFull(reader, echo); err != nil || string(echo) != message {
				t.Fatalf("echo %q, %v", echo, err)
			}
		}
	})
	t.Run("a stream is flushed at once, and aborted when the sandbox is killed", func(t *testing.T) {
		conn := dial(t, s)
		fmt.Fprintf(conn, "GET /stream HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 2)
		if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "0\n" {
			t.Fatalf("%q, %v", first, err)
		}
		if status := s.kill(created.SandboxID); status != 204 {
			t.Fatalf("killing: %d", status)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("the stream of a killed sandbox ends as if it were complete")
		}
		if status := s.health(created.SandboxID); status != 502 {
			t.Errorf("right after the kill the agent answers %d, want 502", status)
		}
	})
}

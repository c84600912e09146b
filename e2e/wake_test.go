package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// wakeable creates a secured sandbox that traffic wakes.
func (s *server) wakeable() sandbox {
	s.t.Helper()
	status, body := s.call("POST", "/v2/sandboxes", map[string]any{
		"templateID": "base", "timeout": 300, "secure": true, "autoPause": true, "autoResume": map[string]any{"enabled": true},
	}, "X-API-Key", fullKey)
	var created sandbox
	if err := json.Unmarshal(body, &created); status != http.StatusCreated || err != nil {
		s.t.Fatalf("creating a sandbox: %d %s", status, body)
	}
	return created
}

func (s *server) pause(id string) {
	s.t.Helper()
	if status, body := s.call("POST", "/sandboxes/"+id+"/pause", nil, "X-API-Key", fullKey); status != http.StatusNoContent {
		s.t.Fatalf("pausing: %d %s", status, body)
	}
}

// wantState checks what the API says of a sandbox.
func (s *server) wantState(id, want string) {
	s.t.Helper()
	status, body := s.call("GET", "/sandboxes/"+id, nil, "X-API-Key", fullKey)
	var is struct{ State string }
	if err := json.Unmarshal(body, &is); err != nil || is.State != want {
		s.t.Errorf("the sandbox is %d %s, want it %s", status, body, want)
	}
}

// TestAWebSocketWakesAPausedSandbox opens one to a server inside whose sandbox
// is paused: the first that it hears of that is nothing.
func TestAWebSocketWakesAPausedSandbox(t *testing.T) {
	s := start(t)
	created := s.wakeable()
	script := base64.StdEncoding.EncodeToString([]byte(insideServer))
	s.command(created, fmt.Sprintf("echo %s | base64 -d > /tmp/server.py; setsid python3 /tmp/server.py >/dev/null 2>&1 </dev/null &", script))
	host := "8000-" + created.SandboxID + ".localhost"
	for deadline := time.Now().Add(2 * time.Minute); raw(t, s, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n").StatusCode != 200; {
		if time.Now().After(deadline) {
			t.Fatal("the server inside does not start")
		}
	}
	s.pause(created.SandboxID)
	for range 2 {
		s.wantState(created.SandboxID, "paused")
		key := base64.StdEncoding.EncodeToString([]byte(rand.Text()[:16]))
		conn := dial(t, s)
		fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", host, key)
		reader := bufio.NewReader(conn)
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455, section 4.2.2
		if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
			t.Fatalf("%s %v", resp.Status, resp.Header)
		}
		if _, err := io.WriteString(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		echo := make([]byte, len("hello"))
		if _, err := io.ReadFull(reader, echo); err != nil || !bytes.Equal(echo, []byte("hello")) {
			t.Fatalf("echo %q, %v", echo, err)
		}
		s.wantState(created.SandboxID, "running")
		// The next pause ends the stream, and does not let it hang.
		s.pause(created.SandboxID)
		if n, err := io.Copy(io.Discard, reader); n != 0 {
			t.Errorf("%d bytes more, %v", n, err)
		}
	}
}

// TestASignedLinkWakesAPausedSandbox opens a link to a file, as E2B's SDKs sign
// it, by both of its addresses.
func TestASignedLinkWakesAPausedSandbox(t *testing.T) {
	s := start(t)
	created := s.wakeable()
	s.command(created, "echo kept > /tmp/file")
	signed := func(token string) string {
		sum := sha256.Sum256([]byte("/tmp/file:read:root:" + token))
		return "/files?" + url.Values{
			"path": {"/tmp/file"}, "username": {"root"}, "signature": {"v1_" + base64.RawStdEncoding.EncodeToString(sum[:])},
		}.Encode()
	}
	open := func(host, link string) (int, string) {
		resp := raw(t, s, "GET "+link+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	own := "49983-" + created.SandboxID + ".localhost"
	for _, host := range []string{own, "localhost"} {
		s.pause(created.SandboxID)
		if status, body := open(own, signed("another")); status != http.StatusForbidden {
			t.Errorf("a link of another's: %d %s", status, body)
		}
		s.wantState(created.SandboxID, "paused")
		if status, body := open(host, signed(created.EnvdAccessToken)); status != http.StatusOK || body != "kept\n" {
			t.Errorf("by %s: %d %q", host, status, body)
		}
		s.wantState(created.SandboxID, "running")
	}
}

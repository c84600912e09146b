package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cube"
)

// rawConn is a client that is written by hand, as a library's would tidy up.
type rawConn struct {
	*net.TCPConn
	*bufio.Reader
}

func (c rawConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// send begins a request for port 8000 of a sandbox.
func (w *world) send(t *testing.T, id cube.SandboxID, requestLine, rest string) rawConn {
	t.Helper()
	return w.sendTo(t, requestLine, fmt.Sprintf("Host: 8000-%s.cube.test\r\n%s", id, rest))
}

// sendTo begins a request whose headers are all in rest.
func (w *world) sendTo(t *testing.T, requestLine, rest string) rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", w.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, requestLine+" HTTP/1.1\r\n"+rest); err != nil {
		t.Fatal(err)
	}
	return rawConn{conn.(*net.TCPConn), bufio.NewReader(conn)}
}

// answer reads the answer to what was sent.
func (c rawConn) answer(t *testing.T) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func wantRead(t *testing.T, from io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(from, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func TestARequestGoesInAsItWasSent(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %q %q %s", r.RequestURI, r.Header["Accept-Encoding"], r.Header["User-Agent"], r.Header.Get("X-Forwarded-For"))
	})
	const target = "/a%2Fb//c/../d?a=1;b=2&c=%zz&d"
	conn := w.send(t, w.create(t), "GET "+target, "X-Forwarded-For: 1.2.3.4\r\n\r\n")
	body, err := io.ReadAll(conn.answer(t).Body)
	if want := target + ` [] [] 127.0.0.1`; err != nil || string(body) != want {
		t.Errorf("inside it is %s, %v; want %s", body, err, want)
	}
}

func TestBothWaysStreamAtOnce(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			_, _ = io.WriteString(w, lines.Text()+"!\n")
			_ = control.Flush()
		}
	})
	conn := w.send(t, w.create(t), "POST /", "Transfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
	resp := conn.answer(t)
	wantRead(t, resp.Body, "one!\n")
	if _, err := io.WriteString(conn, "4\r\ntwo\n\r\n0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "two!\n" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

// upgrade serves an echo of its own protocol, as WebSocket does.
func upgrade(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Request-Id: forged\r\n\r\n", r.Header.Get("Upgrade"))
	_, _ = io.Copy(conn, buffered)
}

func TestAnUpgradedConnectionEndsWithItsSandbox(t *testing.T) {
	w := newWorld(t, upgrade)
	id := w.create(t)
	conn := w.send(t, id, "GET /", "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	resp := conn.answer(t)
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "echo" || resp.Header.Get("X-Request-Id") == "forged" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	for _, message := range []string{"one", "two"} {
		if _, err := io.WriteString(conn, message); err != nil {
			t.Fatal(err)
		}
		wantRead(t, conn, message)
	}
	if err := w.sandboxes.Kill(t.Context(), id, "test"); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("read %d bytes, %v: the connection is still there", n, err)
	}
}

func TestAnHTTP2StreamIsResetWhenTheSandboxEnds(t *testing.T) {
	w := newWorld(t, firstLine)
	id := w.create(t)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "8000-" + string(id) + ".cube.test"
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	wantRead(t, resp.Body, "first\n")
	if err := w.sandboxes.Kill(t.Context(), id, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); resp.ProtoMajor != 2 || err == nil {
		t.Errorf("the %s stream ends as if it were complete", resp.Proto)
	}
}

// firstLine answers with a line, and never more.
func firstLine(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "first\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// untilClose answers as HTTP/1.0 does, without a length.
func untilClose(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\nfirst\n")
	if r.URL.Path == "/endless" {
		_, _ = io.Copy(io.Discard, conn)
	}
}

func TestAnAnswerWithoutALengthEndsWithItsConnection(t *testing.T) {
	w := newWorld(t, untilClose)
	id := w.create(t)
	if body, err := io.ReadAll(w.get(t, id, "/").Body); err != nil || string(body) != "first\n" {
		t.Errorf("a whole answer: %q, %v", body, err)
	}
	endless := w.get(t, id, "/endless").Body
	wantRead(t, endless, "first\n")
	if err := w.sandboxes.Kill(t.Context(), id, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(endless); err == nil {
		t.Error("the answer of a killed sandbox ends as if it were complete")
	}
}

func TestAnAnswerThatIsNotThereIsNotAnEmptyOne(t *testing.T) {
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	conn := w.send(t, w.create(t), "GET /", "\r\n")
	if err := conn.CloseWrite(); err != nil { // net/http takes this for a client that is gone
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(conn); len(got) > 0 {
		t.Errorf("answered %q", got)
	}
}

func TestEveryAnswerHasOurRequestIDOnce(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "forged")
		if r.URL.Path == "/hints" {
			w.WriteHeader(http.StatusEarlyHints)
		}
	})
	id := w.create(t)
	for _, path := range []string{"/", "/hints"} {
		if ids := w.get(t, id, path).Header.Values("X-Request-Id"); len(ids) != 1 || len(ids[0]) != 26 {
			t.Errorf("%s: the ids are %q", path, ids)
		}
	}
	if err := w.sandboxes.Kill(t.Context(), id, "test"); err != nil {
		t.Fatal(err)
	}
	if ids := w.get(t, id, "/").Header.Values("X-Request-Id"); len(ids) != 1 || len(ids[0]) != 26 {
		t.Errorf("of an error: the ids are %q", ids)
	}
}

func TestHeadersOfASandboxAreBounded(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", maxAnswerHeader))
	})
	resp := w.get(t, w.create(t), "/")
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 502 || !strings.Contains(string(body), messageBroken) || resp.Header.Get("X-Long") != "" {
		t.Errorf("answered %s %s", resp.Status, body)
	}
}

func TestTheAgentsPathsForTheServerAloneAreNotReached(t *testing.T) {
	w := newWorld(t, nil)
	id := w.create(t)
	agent := fmt.Sprintf("Host: 49983-%s.cube.test\r\nContent-Length: 2\r\n\r\n{}", id)
	for _, path := range []string{
		"/init", "//init", "/./init", "/init/", "/x/../init", "/%69nit", "/INIT", "/%2finit", "/%2e/init", "/init?x",
		"/freeze", "/unfreeze", "/collapse", "/fsfreeze", "/fsthaw",
		"/build/copy", "/build/provision", "/Build//user", "/x/../build/workdir", "/build%2fcopy", "/%62uild/./copy",
	} {
		resp := w.sendTo(t, "POST "+path, agent).answer(t)
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 404 || !strings.Contains(string(body), `"code":404`) {
			t.Errorf("POST %s: %s %s, want our 404", path, resp.Status, body)
		}
	}
	if resp := w.sendTo(t, "GET /health", agent).answer(t); resp.StatusCode != 204 {
		t.Errorf("GET /health: %s, want the agent's 204", resp.Status)
	}
}

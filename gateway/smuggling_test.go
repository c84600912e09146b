package gateway

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestNoRequestHidesAnother sends requests that two readers could take for
// different ones. What a server inside sees must be what the gateway has judged:
// nothing, or one request, and never the second, which is for nobody.
func TestNoRequestHidesAnother(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf("%s %s %s %q", r.Method, r.RequestURI, strings.Split(r.Host, "-")[0], body))
	})
	id := w.create(t)
	host := fmt.Sprintf("Host: 8000-%s.cube.test\r\n", id)
	const second = "GET /second HTTP/1.1\r\nHost: nobody.example\r\n\r\n"
	for _, row := range []struct {
		name, request string
		want          int
		inside        string // "" if nothing may arrive
	}{
		{"a length and chunks", "POST /a HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, 200, `POST /a 8000 ""`},
		{"chunks and a length", "POST /a HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 100\r\n\r\n1\r\nx\r\n0\r\n\r\n" + second, 200, `POST /a 8000 "x"`},
		{"an encoding that nobody knows", "POST /a HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + second, 501, ""},
		{"two encodings", "POST /a HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + second, 501, ""},
		{"a list of encodings", "POST /a HTTP/1.1\r\n" + host + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n" + second, 501, ""},
		{"an encoding behind a vertical tab", "POST /a HTTP/1.1\r\n" + host + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + second, 400, ""},
		{"a space before the colon", "POST /a HTTP/1.1\r\n" + host + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + second, 400, ""},
		{"a header that is folded", "POST /a HTTP/1.1\r\n" + host + " Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + second, 400, ""},
		{"two lengths", "POST /a HTTP/1.1\r\n" + host + "Content-Length: 0\r\nContent-Length: 50\r\n\r\n" + second, 400, ""},
		{"a length with a sign", "POST /a HTTP/1.1\r\n" + host + "Content-Length: +0\r\n\r\n" + second, 400, ""},
		{"a list of lengths", "POST /a HTTP/1.1\r\n" + host + "Content-Length: 0, 50\r\n\r\n" + second, 400, ""},
		{"a length that the connection owns", "POST /a HTTP/1.1\r\n" + host + "Connection: Content-Length\r\nContent-Length: 1\r\n\r\nx" + second, 200, `POST /a 8000 "x"`},
		{"a carriage return in a value", "GET /a HTTP/1.1\r\n" + host + "X-A: b\rTransfer-Encoding: chunked\r\n\r\n" + second, 400, ""},
		{"a zero in a value", "GET /a HTTP/1.1\r\n" + host + "X-A: b\x00c\r\n\r\n" + second, 400, ""},
		{"a line feed in the path", "GET /a%0d%0aHost:x HTTP/1.1\r\n" + host + "\r\n" + second, 200, `GET /a%0d%0aHost:x 8000 ""`},
		{"a body of a GET", "GET /a HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\nx" + second, 200, `GET /a 8000 "x"`},
		{"no host", "GET /a HTTP/1.1\r\n\r\n" + second, 400, ""},
		{"two hosts", "GET /a HTTP/1.1\r\n" + host + "Host: nobody.example\r\n\r\n" + second, 400, ""},
		{"a host with an account", "GET /a HTTP/1.1\r\nHost: 8000-" + string(id) + ".cube.test@nobody.example\r\n\r\n" + second, 400, ""},
		{"a host with a path", "GET /a HTTP/1.1\r\nHost: 8000-" + string(id) + ".cube.test/x\r\n\r\n" + second, 400, ""},
		{"a host with a quote", "GET /a HTTP/1.1\r\nHost: 8000-" + string(id) + ".cube.test'\r\n\r\n" + second, 400, ""},
		{"a whole address, which is believed", "GET http://8000-" + string(id) + ".cube.test/a HTTP/1.1\r\nHost: nobody.example\r\n\r\n" + second, 200, `GET /a 8000 ""`},
		{"the address of another, which is believed", "GET http://nobody.example/a HTTP/1.1\r\n" + host + "\r\n" + second, 400, ""},
		{"an upgrade to HTTP/2", "GET /a HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + second, 200, `GET /a 8000 ""`},
	} {
		t.Run(row.name, func(t *testing.T) {
			seen = nil
			line, rest, _ := strings.Cut(row.request, " HTTP/1.1\r\n")
			conn := w.sendTo(t, line, rest)
			resp := conn.answer(t)
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != row.want {
				t.Errorf("answered %s, want %d", resp.Status, row.want)
			}
			// The connection ends, or what is behind is a request of its own.
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			if next, err := http.ReadResponse(conn.Reader, nil); err == nil && next.StatusCode != 400 {
				t.Errorf("what is behind was answered with %s", next.Status)
			}
			mu.Lock()
			defer mu.Unlock()
			var want []string
			if row.inside != "" {
				want = []string{row.inside}
			}
			if !slices.Equal(seen, want) {
				t.Errorf("inside arrived %q, want %q", seen, want)
			}
		})
	}
}

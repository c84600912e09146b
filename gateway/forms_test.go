package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestAnswersKeepTheirForm looks at what a client sees of an answer, byte by byte.
func TestAnswersKeepTheirForm(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/length":
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hello")
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		case "/same":
			w.Header().Set("Etag", `"1"`)
			w.WriteHeader(http.StatusNotModified)
		case "/trailers":
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Sum", "4")
			w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
		case "/hints":
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "page")
		case "/refuses":
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		case "/echo":
			body, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%d %q %q %q %v", r.ContentLength, r.TransferEncoding, body, r.Trailer.Get("X-Sum"), err)
		}
	})
	id := w.create(t)
	for _, row := range []struct {
		name, line, rest, body string // what is sent; the body behind a 100 alone if that is asked for
		want, has              []string
	}{
		{"HEAD", "HEAD /length", "\r\n", "", []string{"HTTP/1.1 200 OK"}, []string{"Content-Length: 5"}},
		{"no content", "GET /empty", "\r\n", "", []string{"HTTP/1.1 204 No Content"}, nil},
		{"not modified", "GET /same", "\r\n", "", []string{"HTTP/1.1 304 Not Modified"}, []string{`Etag: "1"`}},
		{"trailers", "GET /trailers", "Te: trailers\r\n\r\n", "", []string{"HTTP/1.1 200 OK"}, []string{"Trailer: X-Sum", "\r\n4\r\nbody\r\n0\r\n", "X-Sum: 4", "X-Late: yes"}},
		{"early hints", "GET /hints", "\r\n", "", []string{"HTTP/1.1 103 Early Hints", "HTTP/1.1 200 OK"}, []string{"Link: </a.css>", "page"}},
		{"a length", "POST /echo", "Content-Length: 2\r\n\r\nab", "", []string{"HTTP/1.1 200 OK"}, []string{`2 [] "ab" "" <nil>`}},
		{"chunks", "POST /echo", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "", []string{"HTTP/1.1 200 OK"}, []string{`-1 ["chunked"] "abc" "" <nil>`}},
		{"trailers of a request", "POST /echo", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 2\r\n\r\n", "", []string{"HTTP/1.1 200 OK"}, []string{`-1 ["chunked"] "ab" "2" <nil>`}},
		{"a body that is wanted", "POST /echo", "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", "ab", []string{"HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"}, []string{`2 [] "ab" "" <nil>`}},
		{"a body that is not wanted", "POST /refuses", "Expect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n", "ab", []string{"HTTP/1.1 413 Request Entity Too Large"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn := w.send(t, id, row.line, "Connection: close\r\n"+row.rest)
			var all strings.Builder
			lines := bufio.NewReader(io.TeeReader(conn, &all))
			for _, status := range row.want {
				if line, err := lines.ReadString('\n'); strings.TrimSpace(line) != status {
					t.Fatalf("it says %q (%v), want %s", line, err, status)
				}
				for line := ""; line != "\r\n"; {
					var err error
					if line, err = lines.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
				}
				if strings.Contains(status, " 100 ") {
					if _, err := io.WriteString(conn, row.body); err != nil {
						t.Fatal(err)
					}
				}
			}
			if _, err := io.Copy(io.Discard, lines); err != nil {
				t.Fatal(err)
			}
			for _, want := range row.has {
				if !strings.Contains(all.String(), want) {
					t.Errorf("there is no %q in\n%s", want, all.String())
				}
			}
			if strings.HasPrefix(row.line, "HEAD") && !strings.HasSuffix(all.String(), "\r\n\r\n") {
				t.Errorf("there is a body:\n%s", all.String())
			}
		})
	}
}

func TestHeadersOfARequestAreBounded(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) {})
	id := w.create(t)
	for length, want := range map[int]int{60_000: http.StatusOK, 100_000: http.StatusRequestHeaderFieldsTooLarge} {
		conn := w.send(t, id, "GET /", "X-Long: "+strings.Repeat("x", length)+"\r\n\r\n")
		if resp := conn.answer(t); resp.StatusCode != want {
			t.Errorf("%d bytes are answered with %s, want %d", length, resp.Status, want)
		}
	}
}

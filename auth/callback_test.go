package auth

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestK1RedirectsAreNotFollowed(t *testing.T) {
	second := newOperator(t, status(200))
	for _, code := range []int{301, 302, 303, 307, 308} {
		first := newOperator(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", second.URL)
			w.WriteHeader(code)
		})
		wantStatus(t, newHouse(t, asking(first.URL)).send(t, "GET /sandboxes", "X-API-Key: key"), 401)
	}
	if n := len(second.questions()); n != 0 {
		t.Errorf("the second server was asked %d times", n)
	}
}

// tcpCallback is an auth service below HTTP: talk is called for each connection.
func tcpCallback(t *testing.T, talk func(net.Conn)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var talks sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	talks.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			talks.Go(func() {
				defer conn.Close()
				talk(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		talks.Wait()
	})
	return "http://" + listener.Addr().String()
}

// readRequest reads the head of a question.
func readRequest(c net.Conn) bool {
	seen := ""
	buf := make([]byte, 1024)
	for !strings.Contains(seen, "\r\n\r\n") {
		n, err := c.Read(buf)
		if err != nil {
			return false
		}
		seen += string(buf[:n])
	}
	return true
}

func TestK2ABrokenCallbackIs500InTime(t *testing.T) {
	hang := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	for name, talk := range map[string]func(net.Conn){
		"hangs": hang,
		"resets": func(c net.Conn) {
			readRequest(c)
			_ = c.(*net.TCPConn).SetLinger(0)
		},
		"closes without an answer": func(c net.Conn) { readRequest(c) },
		"speaks no HTTP":           func(c net.Conn) { readRequest(c); fmt.Fprint(c, "SSH-2.0-x\r\n\r\n") },
		"never ends its headers": func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := fmt.Fprint(c, "X-A: b\r\n"); err != nil {
					return
				}
			}
		},
		"drips its headers": func(c net.Conn) { readRequest(c); fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX-A"); hang(c) },
		"sends 64 KiB of headers": func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX-A: "+strings.Repeat("a", 64<<10)+"\r\n\r\n")
		},
		"drips its body": func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
			hang(c)
		},
		"breaks off its body": func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, asking(tcpCallback(t, talk), within(300*time.Millisecond)))
			wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 500)
		})
	}
	t.Run("sends a body without end after a 200", func(t *testing.T) {
		var sent atomic.Int64
		u := tcpCallback(t, func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
			chunk := make([]byte, 32<<10)
			for {
				n, err := c.Write(chunk)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		h := newHouse(t, asking(u, within(5*time.Second)))
		wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
		if sent.Load() > 64<<20 {
			t.Errorf("%d bytes were taken", sent.Load())
		}
	})
	t.Run("switches protocols and hangs", func(t *testing.T) {
		u := tcpCallback(t, func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			hang(c)
		})
		wantStatus(t, newHouse(t, asking(u, within(2*time.Second))).send(t, "GET /sandboxes", "X-API-Key: key"), 401)
	})
}

func TestK2IdleConnectionsThatCloseAreNoFault(t *testing.T) {
	var answered, broken atomic.Int64
	u := tcpCallback(t, func(c net.Conn) {
		readRequest(c)
		answered.Add(1)
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		// Closed exactly when the next question is on its way.
		if readRequest(c) {
			broken.Add(1)
		}
	})
	h := newHouse(t, asking(u))
	for range 20 {
		wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
	}
	if answered.Load() != 20 || broken.Load() == 0 {
		t.Errorf("20 requests: %d answers, %d connections that broke", answered.Load(), broken.Load())
	}
}

func TestS6WithoutRetriesANewConnectionThatBreaksIsNotTriedAgain(t *testing.T) {
	var asked atomic.Int64
	u := tcpCallback(t, func(c net.Conn) {
		if readRequest(c) {
			asked.Add(1)
		}
	})
	h := newHouse(t, asking(u, func(c *Config) { c.Callback.Retries = 0 }))
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 500)
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestQuestionsShareConnections(t *testing.T) {
	var connections atomic.Int64
	service := httptest.NewUnstartedServer(status(200))
	service.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	service.Start()
	defer service.Close()
	h := newHouse(t, asking(service.URL))
	const clients = 8
	for range 10 {
		var round sync.WaitGroup
		for range clients {
			round.Go(func() {
				if resp := h.send(t, "GET /sandboxes", "X-API-Key: key"); resp.StatusCode != 200 {
					t.Errorf("answered %s", resp.Status)
				}
			})
		}
		round.Wait()
	}
	// net/http may open a connection too many while one is on its way back.
	if n := connections.Load(); n > 3*clients {
		t.Errorf("%d connections for %d clients", n, clients)
	}
}

func TestNoSecretComesBackInAnError(t *testing.T) {
	// A service that sends back what it gets, as an echo server does, in each
	// place that net/http's errors quote.
	for name, answer := range map[string]string{
		"an echo":        "POST /verify?s3cret-query HTTP/1.1\r\nX-Api-Key: s3cret-key\r\n\r\n",
		"in the status":  "HTTP/1.1 s3cret-key OK\r\n\r\n",
		"in the version": "HTTP/s3cret-key 200 OK\r\n\r\n",
		"as a header":    "HTTP/1.1 200 OK\r\ns3cret-key\r\n\r\n",
		"as a length":    "HTTP/1.1 200 OK\r\nContent-Length: s3cret-key\r\n\r\n",
		"as an encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: s3cret-key\r\n\r\n",
	} {
		u := tcpCallback(t, func(c net.Conn) { readRequest(c); fmt.Fprint(c, answer) })
		h := newHouse(t, asking(u+"/verify?s3cret-query"))
		resp := h.send(t, "GET /sandboxes", "X-API-Key: s3cret-key")
		wantStatus(t, resp, 500)
		body, _ := io.ReadAll(resp.Body)
		if log := h.log.String(); strings.Contains(log+string(body), "s3cret") || !strings.Contains(log, "not HTTP") {
			t.Errorf("%s: the log holds %s, the body %s", name, log, body)
		}
	}
}

func TestK3AClientThatLeavesHarmsNobodyElse(t *testing.T) {
	const clients = 6
	arrived, release := make(chan struct{}, clients), make(chan struct{})
	o := newOperator(t, func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	h := newHouse(t, asking(o.URL))
	leaver, err := net.Dial("tcp", h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(leaver, "GET /sandboxes HTTP/1.1\r\nHost: cube\r\nX-API-Key: key\r\n\r\n")
	var others sync.WaitGroup
	for range clients - 1 {
		others.Go(func() {
			if resp := h.send(t, "GET /sandboxes", "X-API-Key: key"); resp.StatusCode != 200 {
				t.Errorf("another client got %s", resp.Status)
			}
		})
	}
	for range clients {
		<-arrived
	}
	leaver.Close()
	close(release)
	others.Wait()
}

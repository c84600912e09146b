package callback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube/auth/decision"
)

func TestAQuestionHoldsThisAndNothingElse(t *testing.T) {
	o := newOperator(t, status(200))
	q := question("key")
	q.Path = "/templates/a%2Fb"
	for name, row := range map[string]struct {
		config Config
		q      decision.Question
		want   http.Header
	}{
		"a key": {Config{}, q, http.Header{
			"X-Api-Key": {"key"}, "X-Request-Path": {"/templates/a%2Fb"}, "X-Request-Method": {"GET"}, "X-Request-Id": {"r1"}, "User-Agent": {"cube-api"}, "Content-Length": {"0"},
		}},
		"a token, without a request id": {Config{}, decision.Question{Credential: decision.Credential{Kind: decision.Bearer, Secret: "token"}, Method: "PATCH", Path: "/x"}, http.Header{
			"Authorization": {"Bearer token"}, "X-Request-Path": {"/x"}, "X-Request-Method": {"PATCH"}, "User-Agent": {"cube-api"}, "Content-Length": {"0"},
		}},
		"with headers of the settings": {Config{Headers: []string{"X-Cube: secret", "x-other:\ta b "}}, q, http.Header{
			"X-Api-Key": {"key"}, "X-Request-Path": {"/templates/a%2Fb"}, "X-Request-Method": {"GET"}, "X-Request-Id": {"r1"}, "User-Agent": {"cube-api"}, "Content-Length": {"0"},
			"X-Cube": {"secret"}, "X-Other": {"a b"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			row.config.URLs = []string{o.URL + "/verify?a=b"}
			want := decision.Answer{Allowed: true, Status: 200, Source: decision.FromCallback}
			if diff := cmp.Diff(want, decide(t, newClient(t, row.config), row.q)); diff != "" {
				t.Errorf("the answer (-want +got):\n%s", diff)
			}
			asked := o.questions()
			r := asked[len(asked)-1]
			if r.Method != "POST" || r.RequestURI != "/verify?a=b" || r.ContentLength != 0 {
				t.Errorf("the question is %s %s with %d bytes", r.Method, r.RequestURI, r.ContentLength)
			}
			if diff := cmp.Diff(row.want, r.Header); diff != "" {
				t.Errorf("its headers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestK1RedirectsAreNotFollowed(t *testing.T) {
	second := newOperator(t, status(200))
	for _, code := range []int{301, 302, 303, 307, 308} {
		first := newOperator(t, answering(code, http.Header{"Location": {second.URL}}))
		if a := decide(t, newClient(t, Config{URLs: []string{first.URL}}), question("key")); a.Allowed || a.Status != code {
			t.Errorf("answered %+v", a)
		}
	}
	if n := len(second.questions()); n != 0 {
		t.Errorf("the second server was asked %d times", n)
	}
}

func TestK2ABrokenServiceIsNoAnswerInTime(t *testing.T) {
	swallow := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	after := func(answer string, then func(net.Conn)) func(net.Conn) {
		return func(c net.Conn) { readRequest(c); fmt.Fprint(c, answer); then(c) }
	}
	leave := func(net.Conn) {}
	for name, row := range map[string]struct {
		talk func(net.Conn)
		want error
	}{
		"hangs":                    {swallow, errSlow},
		"resets":                   {after("", func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }), errBroken},
		"closes without an answer": {after("", leave), errBroken},
		"closes at once":           {leave, errBroken},
		"speaks no HTTP":           {after("SSH-2.0-x\r\n\r\n", swallow), errNotHTTP},
		"never ends its headers": {after("HTTP/1.1 200 OK\r\n", func(c net.Conn) {
			for {
				if _, err := fmt.Fprint(c, "X-A: b\r\n"); err != nil {
					return
				}
			}
		}), errNotHTTP},
		"drips its headers":       {after("HTTP/1.1 200 OK\r\nX-A", swallow), errSlow},
		"breaks off its headers":  {after("HTTP/1.1 200 OK\r\nX-A: b", leave), errBroken},
		"sends 64 KiB of headers": {after("HTTP/1.1 200 OK\r\nX-A: "+strings.Repeat("a", maxAnswerBytes)+"\r\n\r\n", swallow), errNotHTTP},
		"drips its body":          {after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", swallow), errSlow},
		"breaks off its body":     {after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", leave), errBroken},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := time.Minute
			if row.want == errSlow { //nolint:errorlint // the table's own value
				timeout = 300 * time.Millisecond
			}
			c := newClient(t, Config{URLs: []string{tcpService(t, row.talk)}, Timeout: timeout})
			if a, err := c.Decide(t.Context(), question("key")); !errors.Is(err, row.want) || a.Allowed {
				t.Errorf("answered %+v, %v; want %v", a, err, row.want)
			}
		})
	}
	t.Run("refuses connections", func(t *testing.T) {
		o := newOperator(t, status(200))
		o.Close()
		wantNoAnswer(t, newClient(t, Config{URLs: []string{o.URL}}), "refused")
	})
	t.Run("does not end a TLS handshake", func(t *testing.T) {
		u := strings.Replace(tcpService(t, swallow), "http:", "https:", 1)
		wantNoAnswer(t, newClient(t, Config{URLs: []string{u}, ConnectTimeout: 100 * time.Millisecond}), errSlow.Error())
	})
	t.Run("sends a body without end after a 200", func(t *testing.T) {
		var sent atomic.Int64
		closed := make(chan struct{})
		u := tcpService(t, after("HTTP/1.1 200 OK\r\n\r\n", func(c net.Conn) {
			chunk := make([]byte, 32<<10)
			for {
				n, err := c.Write(chunk)
				sent.Add(int64(n))
				if err != nil {
					close(closed)
					return
				}
			}
		}))
		if !decide(t, newClient(t, Config{URLs: []string{u}}), question("key")).Allowed {
			t.Error("refused")
		}
		<-closed
		if sent.Load() > 64<<20 {
			t.Errorf("%d bytes were taken", sent.Load())
		}
	})
	t.Run("hangs in the body of a no", func(t *testing.T) {
		u := tcpService(t, after("HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\nabc", swallow))
		if a := decide(t, newClient(t, Config{URLs: []string{u}, Timeout: 2 * time.Second}), question("key")); a.Status != 403 {
			t.Errorf("answered %+v", a)
		}
	})
	t.Run("switches protocols and hangs", func(t *testing.T) {
		closed := make(chan struct{})
		u := tcpService(t, after("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", func(c net.Conn) {
			swallow(c)
			close(closed)
		}))
		if a := decide(t, newClient(t, Config{URLs: []string{u}}), question("key")); a.Allowed || a.Status != 101 {
			t.Errorf("answered %+v", a)
		}
		<-closed
	})
}

func TestK2IdleConnectionsThatCloseAreNoFault(t *testing.T) {
	var answered, broken atomic.Int64
	u := tcpService(t, func(c net.Conn) {
		readRequest(c)
		answered.Add(1)
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		// Closed exactly when the next question is on its way.
		if readRequest(c) {
			broken.Add(1)
		}
	})
	c := newClient(t, Config{URLs: []string{u}})
	for range 20 {
		decide(t, c, question("key"))
	}
	if answered.Load() != 20 || broken.Load() == 0 {
		t.Errorf("20 questions: %d answers, %d connections that broke", answered.Load(), broken.Load())
	}
	if n := c.Stats().Retries; n != 0 {
		t.Errorf("%d retries, want net/http's own alone", n)
	}
}

// breaking is a connection that breaks in the middle of its second question.
type breaking struct {
	net.Conn
	broken *atomic.Int64
	used   bool
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.used {
		b.broken.Add(1)
		b.Close()
		return len(p) / 2, syscall.EPIPE
	}
	b.used = true
	return b.Conn.Write(p)
}

func TestK2AnIdleConnectionThatBreaksHalfWayIsNoFault(t *testing.T) {
	o := newOperator(t, status(200))
	var broken atomic.Int64
	c := newClient(t, Config{URLs: []string{o.URL}, dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &breaking{Conn: conn, broken: &broken}, err
	}})
	for range 3 {
		decide(t, c, question("key"))
	}
	if broken.Load() != 2 || len(o.questions()) != 3 {
		t.Errorf("%d connections broke, and the service had %d questions", broken.Load(), len(o.questions()))
	}
}

func TestAConnectionThatBreaksBeforeAnAnswerIsTriedAgain(t *testing.T) {
	const brokenFirst = 2
	for retries, want := range map[int]string{0: errBroken.Error(), 1: errBroken.Error(), 2: "", 3: ""} {
		var asked atomic.Int64
		u := tcpService(t, func(c net.Conn) {
			if readRequest(c) && asked.Add(1) > brokenFirst {
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})
		c := newClient(t, Config{URLs: []string{u}, Retries: retries})
		tries := min(retries, brokenFirst)
		if want != "" {
			wantNoAnswer(t, c, want)
		} else if !decide(t, c, question("key")).Allowed {
			t.Errorf("refused")
		}
		if asked.Load() != int64(tries+1) || c.Stats().Retries != uint64(tries) {
			t.Errorf("with %d retries it was asked %d times, and %d are counted", retries, asked.Load(), c.Stats().Retries)
		}
	}
}

func TestWhatIsNoBrokenConnectionIsNotTriedAgain(t *testing.T) {
	for name, talk := range map[string]func(net.Conn){
		"a slow one":           func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"half an answer":       func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 2") },
		"a yes that breaks":    func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\na") },
		"what is not HTTP":     func(c net.Conn) { fmt.Fprint(c, "220 ready\r\n\r\n") },
		"a no":                 func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") },
		"a no that breaks":     func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\n") },
		"a switch and silence": func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 101 Switch\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			u := tcpService(t, func(c net.Conn) {
				if readRequest(c) {
					asked.Add(1)
					talk(c)
				}
			})
			c := newClient(t, Config{URLs: []string{u}, Retries: 3, Timeout: 2 * time.Second})
			if a, _ := c.Decide(t.Context(), question("key")); a.Allowed {
				t.Error("allowed")
			}
			if asked.Load() != 1 {
				t.Errorf("asked %d times", asked.Load())
			}
		})
	}
}

func TestQuestionsShareConnections(t *testing.T) {
	var connections atomic.Int64
	o := unstarted(status(200))
	o.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	o.Start()
	defer o.Close()
	c := newClient(t, Config{URLs: []string{o.URL}})
	const clients = 8
	for range 10 {
		var round sync.WaitGroup
		for range clients {
			round.Go(func() {
				if a, err := c.Decide(t.Context(), question("key")); !a.Allowed {
					t.Errorf("somebody got %+v, %v", a, err)
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
	// place that net/http's errors and ours could quote.
	for name, answer := range map[string]string{
		"an echo":        "POST /verify?s3cret-query HTTP/1.1\r\nX-Api-Key: s3cret-key\r\n\r\n",
		"in the status":  "HTTP/1.1 s3cret-key OK\r\n\r\n",
		"in the version": "HTTP/s3cret-key 200 OK\r\n\r\n",
		"as a header":    "HTTP/1.1 200 OK\r\ns3cret-key\r\n\r\n",
		"as a length":    "HTTP/1.1 200 OK\r\nContent-Length: s3cret-key\r\n\r\n",
		"as an encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: s3cret-key\r\n\r\n",
		"as a team":      "HTTP/1.1 200 OK\r\nX-Auth-Team: s3cret key\r\nContent-Length: 0\r\n\r\n",
		"as two teams":   "HTTP/1.1 200 OK\r\nX-Auth-Team: s3cret-key\r\nX-Auth-Team: s3cret\r\nContent-Length: 0\r\n\r\n",
		"as a limit":     "HTTP/1.1 200 OK\r\nX-Auth-Limit-Cpus: s3cret-key\r\nContent-Length: 0\r\n\r\n",
	} {
		u := tcpService(t, func(c net.Conn) { readRequest(c); fmt.Fprint(c, answer) })
		c := newClient(t, Config{URLs: []string{u + "/verify?s3cret-query"}})
		if _, err := c.Decide(t.Context(), question("s3cret-key")); err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "verify") {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// TestTheEnvironmentsProxy asks in another process, for net/http reads the
// environment once in each. It never uses a proxy for 127.0.0.1, so the service
// is one that only the proxy knows.
func TestTheEnvironmentsProxy(t *testing.T) {
	const service = "http://auth.invalid/verify"
	if os.Getenv("CUBE_TEST_PROXY") != "" {
		c := newClient(t, Config{URLs: []string{service}, ConnectTimeout: 10 * time.Second, UseProxy: os.Getenv("CUBE_TEST_PROXY") == "use"})
		if a, _ := c.Decide(t.Context(), question("key")); a.Allowed {
			fmt.Println("answered by the proxy")
		}
		return
	}
	for use, want := range map[string]bool{"use": true, "ignore": false} {
		proxy := newOperator(t, status(200))
		child := exec.Command(os.Args[0], "-test.run=^TestTheEnvironmentsProxy$")
		child.Env = append(os.Environ(), "CUBE_TEST_PROXY="+use, "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
		out, err := child.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := strings.Contains(string(out), "answered by the proxy"); got != want || (len(proxy.questions()) == 1) != want {
			t.Errorf("told to %s the proxy: it got %d questions; %s", use, len(proxy.questions()), out)
		}
	}
}

func TestObserveIsToldOfEachQuestion(t *testing.T) {
	outcomes := map[string]int{}
	observe := func(took time.Duration, outcome string) {
		if took <= 0 {
			t.Errorf("a question took %v", took)
		}
		outcomes[outcome]++
	}
	for _, code := range []int{200, 401, 500} {
		o := newOperator(t, status(code))
		decide(t, newClient(t, Config{URLs: []string{o.URL}, Observe: observe}), question("key"))
	}
	wantNoAnswer(t, newClient(t, Config{URLs: []string{tcpService(t, func(net.Conn) {})}, Observe: observe}), "")
	if diff := cmp.Diff(map[string]int{OutcomeAllowed: 1, OutcomeRefused: 2, OutcomeNoAnswer: 1}, outcomes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

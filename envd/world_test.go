package envd

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/user"
	"testing"

	"connectrpc.com/connect"

	"cube/envd/gen/filesystem/filesystemconnect"
	"cube/envd/gen/process/processconnect"
)

// agent is an agent that listens, with clients that speak JSON as E2B's do.
type agent struct {
	t         *testing.T
	handler   *Agent
	url       string
	http      *http.Client
	token     string // presented with every request
	processes processconnect.ProcessClient
	files     filesystemconnect.FilesystemClient
}

// listen makes an agent that nobody has initialised.
func listen(t *testing.T) *agent {
	t.Helper()
	handler := New(slog.New(slog.DiscardHandler))
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections() // ends streams that a test left open
		server.Close()
		handler.Close()
	})
	a := &agent{t: t, handler: handler, url: server.URL, http: server.Client()}
	asJSON := []connect.ClientOption{connect.WithProtoJSON(), connect.WithInterceptors(presenting{a})}
	a.processes = processconnect.NewProcessClient(a.http, a.url, asJSON...)
	a.files = filesystemconnect.NewFilesystemClient(a.http, a.url, asJSON...)
	return a
}

// start makes an agent whose default user is the one that runs the tests.
func start(t *testing.T, change ...func(*initRequest)) *agent {
	t.Helper()
	a := listen(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	settings := initRequest{DefaultUser: me.Username, HostKey: "key of the host"}
	for _, c := range change {
		c(&settings)
	}
	a.mustInit("", settings)
	return a
}

func (a *agent) init(hostKey string, settings initRequest) answer {
	a.t.Helper()
	body, err := json.Marshal(settings)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.do(http.MethodPost, "/init", bytes.NewReader(body), http.Header{hostKeyHeader: {hostKey}})
}

func (a *agent) mustInit(hostKey string, settings initRequest) {
	a.t.Helper()
	if got := a.init(hostKey, settings); got.status != http.StatusNoContent {
		a.t.Fatalf("init is answered with %d %s", got.status, got.body)
	}
}

// answer is what a plain HTTP request brought.
type answer struct {
	status int
	header http.Header
	body   string
}

// message is that of an error.
func (a answer) message(t *testing.T) string {
	t.Helper()
	var e struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Code != a.status {
		t.Fatalf("the answer %d is no error of E2B's form: %q", a.status, a.body)
	}
	return e.Message
}

func (a *agent) do(method, path string, body io.Reader, header http.Header) answer {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	if header != nil {
		r.Header = header.Clone()
	}
	if a.token != "" {
		r.Header.Set(accessTokenHeader, a.token)
	}
	resp, err := a.http.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(content)}
}

func (a *agent) get(path string) answer {
	a.t.Helper()
	return a.do(http.MethodGet, path, nil, nil)
}

// fileURL is the path and query of /files for a file.
func fileURL(path string, more ...string) string {
	query := url.Values{"path": {path}}
	for i := 0; i < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	return "/files?" + query.Encode()
}

// presenting adds the agent's token to every RPC.
type presenting struct{ a *agent }

func (p presenting) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		r.Header().Set(accessTokenHeader, p.a.token)
		return next(ctx, r)
	}
}

func (p presenting) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set(accessTokenHeader, p.a.token)
		return conn
	}
}

func (presenting) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// newProcessClient makes a client that presents no token.
func newProcessClient(c *http.Client, url string) processconnect.ProcessClient {
	return processconnect.NewProcessClient(c, url, connect.WithProtoJSON())
}

// headerSetter sets one header of every request.
type headerSetter struct {
	next        http.RoundTripper
	name, value string
}

func (h headerSetter) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(h.name, h.value)
	return h.next.RoundTrip(r)
}

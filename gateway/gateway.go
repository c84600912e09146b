// Package gateway carries traffic into sandboxes: to the agent, and to whatever
// else listens inside. It finds out which sandbox and port a request means,
// dials, and streams both ways.
//
// It must never buffer a stream, never let the server's own keys into a
// sandbox, and never believe a sandbox's answer about anything but its content.
package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"time"

	"cube"
	"cube/internal/httperror"
	"cube/internal/requestid"
	"cube/lifecycle"
)

// Config is what a gateway needs.
type Config struct {
	Sandboxes *lifecycle.Sandboxes
	// Domain is that of the sandboxes' host names; "" if there is none.
	Domain string
	// Observe is called for each thing that is done inside through the agent, on
	// the way of the answer; it may wait. nil means that nobody wants to know.
	Observe func(Operation)
	Log     *slog.Logger
}

// Gateway is a handler for the requests that it Takes.
type Gateway struct {
	sandboxes *lifecycle.Sandboxes
	domain    string
	observe   func(Operation)
	log       *slog.Logger
	lookups   chan struct{} // holds one while a signed link is looked up
	pools     pools
	proxy     *httputil.ReverseProxy
}

// New makes a gateway.
func New(c Config) *Gateway {
	g := &Gateway{sandboxes: c.Sandboxes, domain: c.Domain, observe: c.Observe, log: c.Log, lookups: make(chan struct{}, 1)}
	g.pools.dial, g.pools.done = g.dial, g.sandboxes.Done
	g.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      &g.pools,
		FlushInterval:  -1, // every write at once: it may be one line of a log
		ModifyResponse: g.receive,
		ErrorHandler:   g.fail,
		ErrorLog:       slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug), // what clients and sandboxes do wrong
	}
	return g
}

// internalPaths are the agent's for the server alone, and internalPrefix begins
// others. Whatever is not plainly another path counts as one of them: see
// isInternal.
var internalPaths = map[string]bool{
	"/init": true, "/record": true, "/freeze": true, "/unfreeze": true, "/collapse": true, "/fsfreeze": true, "/fsthaw": true, "/build": true,
}

const internalPrefix = "/build/"

// ServeHTTP serves one request into a sandbox.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, err := g.target(r)
	if errors.Is(err, errBadLink) {
		httperror.Write(w, err)
		return
	}
	if err != nil {
		writeBadTarget(w, r, t, err)
		return
	}
	if g.isPreview(r) {
		if addSlash(w, r) {
			return
		}
		r = r.WithContext(withPrefix(r.Context(), t))
	}
	if t.port == cube.AgentPort && isInternal(r) {
		httperror.Write(w, cube.Errorf(cube.NotFound, messageInternal))
		return
	}
	// One that is paused may have to be woken first, or be waited for.
	done, err := g.sandboxes.Visit(r.Context(), t.id, visitor(r, t))
	if t.port == cube.AgentPort && cube.KindOf(err) == cube.Forbidden && isPreflight(r) {
		answerPreflight(w)
		return
	}
	if err != nil {
		g.refuse(w, r, t, err)
		return
	}
	// A sandbox that ends, or is paused, takes its streams along: without this, one whose
	// connections idle would keep a client waiting for ever.
	ctx, cancel := context.WithCancelCause(withIngress(withTarget(r.Context(), t), g.sandboxes.Ingress(t.id)))
	go func() {
		select {
		case <-done:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	defer cancel(nil)
	// A server may answer before it has the whole body, and the agent does. Left
	// to itself net/http then reads what is left of the body, beside the proxy,
	// and now and then the stream breaks. HTTP/2 needs no asking.
	_ = http.NewResponseController(w).EnableFullDuplex()
	w.Header().Del(requestid.Header) // receive and fail set it
	w, r, over := g.watch(w, r.WithContext(ctx))
	defer over()
	g.proxy.ServeHTTP(w, r)
}

// trafficHeader carries the token of a sandbox without public traffic.
const trafficHeader = "E2b-Traffic-Access-Token"

// visitor is what a request shows of itself.
func visitor(r *http.Request, t target) lifecycle.Visitor {
	v := lifecycle.Visitor{
		Agent:        t.port == cube.AgentPort,
		AccessToken:  single(r.Header, "X-Access-Token"),
		TrafficToken: single(r.Header, trafficHeader),
	}
	if v.Agent {
		v.Signed = waker(r)
	}
	return v
}

// single is the value of a header that is there once. Two are none: two readers
// could each believe another.
func single(h http.Header, name string) string {
	if values := h.Values(name); len(values) == 1 {
		return values[0]
	}
	return ""
}

// refuse answers a request that does not get as far as the sandbox.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, t target, err error) {
	switch cube.KindOf(err) {
	case cube.NotFound:
		writeNotFound(w, r, t)
	case cube.Forbidden:
		writePrivate(w, r, t)
	case cube.Exhausted:
		write(w, r, answer{SandboxID: string(t.id), Message: err.Error(), Code: http.StatusTooManyRequests, title: "No Room to Resume"})
	case cube.Timeout, cube.Unavailable, cube.Conflict:
		write(w, r, answer{SandboxID: string(t.id), Message: messageBusy, Code: http.StatusConflict, title: "Sandbox Is Changing Its State"})
	default:
		g.log.Error("a paused sandbox could not be resumed for a request", "request", requestid.From(r.Context()), "sandbox", t.id, "error", err)
		write(w, r, answer{SandboxID: string(t.id), Message: messageAsleep, Code: http.StatusBadGateway, title: "Sandbox Not Resumed"})
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// errEnded is the cause of the end of a request whose sandbox has ended.
var errEnded = errors.New("the sandbox has ended")

// rewrite prepares what goes into the sandbox. The host stays the client's: a
// server inside may check it, or make links of it.
func rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme = "http"
	r.Out.URL.Host = targetOf(r.In.Context()).host()
	r.Out.Host = r.In.Host
	// ReverseProxy drops what it cannot parse; it is not ours to read.
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	// Of a copy the values, which come behind the body, would arrive elsewhere.
	r.Out.Trailer = r.In.Trailer
	r.SetXForwarded()
	rewriteIngress(r)
	rewritePreview(r)
	// Keys of the control plane, which an over-eager client may send along, what
	// was for the gateway itself, and the agent's other half of the door.
	r.Out.Header.Del("X-Api-Key")
	r.Out.Header.Del(trafficHeader)
	r.Out.Header.Del("X-Host-Key")
}

// receive takes the headers of a sandbox's answer. It keeps the sandbox from
// speaking in the server's name: the id must be set here, as an informational
// answer (1xx) makes ReverseProxy forget the headers that were set before.
func (g *Gateway) receive(resp *http.Response) error {
	ctx := resp.Request.Context()
	receiveGRPC(resp)
	resp.Header.Set(requestid.Header, requestid.From(ctx))
	receivePreview(resp)
	if back, ok := resp.Body.(upgradedBody); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = upgraded{back}
	} else if resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 {
		resp.Body = untilClosed{resp.Body, g.sandboxes.Done(targetOf(ctx).id)}
	}
	return nil
}

// untilClosed is a body that ends where its connection does, as HTTP/1.0 has
// it. The end of the sandbox is not that of the answer.
type untilClosed struct {
	io.ReadCloser
	done <-chan struct{}
}

func (b untilClosed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && isClosed(b.done) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Dialing a port is tried again for a moment: a server that was just started is
// not listening yet, and E2B's users rely on that.
const (
	dialTries   = 5
	dialPause   = 100 * time.Millisecond
	dialTimeout = 10 * time.Second
)

// dial connects to a sandbox's port.
func (g *Gateway) dial(ctx context.Context, t target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	for try := 1; ; try++ {
		conn, err := g.sandboxes.Dial(ctx, t.id, t.port)
		if err == nil || cube.KindOf(err) != cube.Unavailable || try == dialTries {
			return conn, err
		}
		select {
		case <-time.After(dialPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// fail answers where the sandbox does not.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	t := targetOf(r.Context())
	w.Header().Set(requestid.Header, requestid.From(r.Context()))
	kind := cube.KindOf(err)
	switch {
	case errors.Is(context.Cause(r.Context()), errEnded), kind == cube.NotFound:
		writeNotFound(w, r, t)
	case r.Context().Err() != nil:
		// The client went away, or has closed its half alone and would take
		// silence for an empty answer.
		panic(http.ErrAbortHandler)
	case kind == cube.Unavailable:
		writePortClosed(w, r, t)
	default:
		// The sandbox took the connection and broke it off: it is at fault, or
		// about to end. The reason is of use to its owner, not to us.
		g.log.Debug("a sandbox broke off a request", "request", requestid.From(r.Context()), "sandbox", t.id, "port", t.port, "error", err)
		writeBroken(w, r, t)
	}
}

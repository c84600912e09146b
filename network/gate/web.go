package gate

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"time"
)

// Bounds of HTTP connections.
const (
	headTimeout = 30 * time.Second // for a request's head, and for TLS
	keepTimeout = 2 * time.Minute  // between requests
	maxHead     = 256 << 10        // bytes of a head
	maxServers  = 128              // connections to one server for one of a sandbox's
)

// newWeb makes the server for connections whose requests are looked at one by
// one: a later one may have another Host.
func (g *Gate) newWeb() *http.Server {
	quiet := log.New(io.Discard, "", 0)
	forward := &httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     roundTrip(roundTripOf),
		FlushInterval: -1, // streams stream
		ErrorLog:      quiet,
		ErrorHandler:  failed,
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(forward, w, r) }),
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       keepTimeout,
		MaxHeaderBytes:    maxHead,
		ErrorLog:          quiet,
		Protocols:         &protocols,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if encrypted, ok := conn.(*tls.Conn); ok {
				conn = encrypted.NetConn()
			}
			return context.WithValue(ctx, webConnKey{}, conn)
		},
	}
}

type (
	webConnKey struct{}
	requestKey struct{}
)

// decided is a request that was allowed.
type decided struct {
	conn   *webConn
	host   string // of the server's URL: the name, or the address where there is none
	change *change
}

// serve decides about one request and forwards it.
func (g *Gate) serve(forward http.Handler, w http.ResponseWriter, r *http.Request) {
	conn := r.Context().Value(webConnKey{}).(*webConn)
	name := canonical(hostOf(r.Host))
	if conn.name != "" && name != conn.name { // RFC 9110, 15.5.20: for another than the certificate
		http.Error(w, "This connection is for "+conn.name+".", http.StatusMisdirectedRequest)
		return
	}
	if r.Method == http.MethodConnect {
		http.Error(w, "There is no proxy here.", http.StatusMethodNotAllowed)
		return
	}
	_, v := conn.flow.decide(g, name)
	if !v.allowed {
		g.refuse(conn.flow, KindHTTP, name, v)
		panic(http.ErrAbortHandler) // as if nobody were there
	}
	d := &decided{conn: conn, host: name, change: v.change}
	if name == "" {
		d.host = conn.flow.target.Addr().String()
	}
	// What the server does not say, the gate does not either.
	w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
	forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, d)))
}

// ownHeaders are those that speak of a connection or a body, which no rule can
// know.
var ownHeaders = map[string]bool{
	"Connection": true, "Content-Length": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// rewrite makes the request that leaves of the one that came: the same, but for
// what a rule changes.
func rewrite(p *httputil.ProxyRequest) {
	d := p.In.Context().Value(requestKey{}).(*decided)
	p.Out.URL.Scheme = "http"
	if d.conn.name != "" {
		p.Out.URL.Scheme = "https"
	}
	p.Out.URL.Host = net.JoinHostPort(d.host, strconv.Itoa(int(d.conn.flow.target.Port())))
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	p.Out.Host = p.In.Host
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := p.In.Header.Values(name); values != nil {
			p.Out.Header[name] = values // another proxy's, before or within the sandbox
		}
	}
	if d.change == nil {
		return
	}
	for name, value := range d.change.headers {
		name = http.CanonicalHeaderKey(name)
		switch {
		case name == "Host":
			p.Out.Host = value
		case !ownHeaders[name]:
			p.Out.Header[name] = []string{value}
		}
	}
}

// failed is for requests that reach no server. Behind a rule the gate is the
// server and says so; else it is as if nobody were there.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	d := r.Context().Value(requestKey{}).(*decided)
	if d.conn.name == "" {
		panic(http.ErrAbortHandler)
	}
	message := "The server behind this network rule does not answer."
	if _, ok := untrusted(err); ok {
		message = "The server behind this network rule has a certificate that is not trusted."
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	http.Error(w, message, http.StatusBadGateway)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// roundTripOf uses the client connection's own connections to servers: no two
// share one.
func roundTripOf(r *http.Request) (*http.Response, error) {
	return r.Context().Value(requestKey{}).(*decided).conn.servers.RoundTrip(r)
}

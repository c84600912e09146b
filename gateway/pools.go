package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"cube"
)

// pools are the connections into sandboxes: transports for each run of a
// sandbox, so that its idle connections can be closed with it.
type pools struct {
	dial func(context.Context, target) (net.Conn, error)
	done func(cube.SandboxID) <-chan struct{} // closed once a sandbox has ended or is paused

	mu         sync.Mutex // guards transports
	transports map[cube.SandboxID]transport
}

// transport is the connections to one run of a sandbox.
type transport struct {
	plain *http.Transport
	// grpc begins with HTTP/2 at once: no gRPC server can be asked in another way
	// whether it speaks it, and most others do not.
	grpc *http.Transport
	over <-chan struct{}
}

func (t transport) closeIdle() {
	t.plain.CloseIdleConnections()
	t.grpc.CloseIdleConnections()
}

const (
	// Connections that are kept open to a port, and to all ports of a sandbox:
	// the sandbox and its clients choose how many ports there are.
	idlePerPort    = 16
	idlePerSandbox = 64
	// idleTimeout is for how long. The sandbox's own servers may close sooner;
	// then net/http dials again.
	idleTimeout = 90 * time.Second
	// continueTimeout is how long a client that has asked waits for the server
	// inside to want its body. Most never say, and get it then.
	continueTimeout = time.Second
	// maxAnswerHeader bounds the headers of an answer, in bytes: they are held
	// in memory, and the sandbox chooses them.
	maxAnswerHeader = 256 << 10
)

// RoundTrip implements http.RoundTripper for requests that have a target.
func (p *pools) RoundTrip(r *http.Request) (*http.Response, error) {
	t := p.of(targetOf(r.Context()).id)
	if isGRPC(r.Header, r.ProtoMajor) && r.URL.Scheme == "http" {
		return t.grpc.RoundTrip(r)
	}
	return t.plain.RoundTrip(r)
}

// of returns the transports of a sandbox.
func (p *pools) of(id cube.SandboxID) transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := p.done(id)
	if t, ok := p.transports[id]; ok {
		if t.over == done {
			return t
		}
		t.closeIdle() // of a run that is over: drop comes too late for it
	}
	plain := &http.Transport{
		// A dial may outlive the request that asked for it, so the port is
		// read from the address.
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			t, err := parseTarget(string(id), port)
			if err != nil {
				return nil, err
			}
			return p.dial(ctx, t)
		},
		MaxIdleConns:           idlePerSandbox,
		MaxIdleConnsPerHost:    idlePerPort,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true,
		// A server inside has a certificate that nobody knows, and is at the other
		// end of a link that is the sandbox's own.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		ForceAttemptHTTP2: true,
		ReadBufferSize:    32 << 10,
		WriteBufferSize:   32 << 10,
	}
	grpc := plain.Clone()
	grpc.Protocols = new(http.Protocols)
	grpc.Protocols.SetUnencryptedHTTP2(true)
	t := transport{plain, grpc, done}
	if p.transports == nil {
		p.transports = map[cube.SandboxID]transport{}
	}
	p.transports[id] = t
	go func() {
		<-done
		p.drop(id, done)
	}()
	return t
}

// drop forgets a run that is over and closes what is open to it.
func (p *pools) drop(id cube.SandboxID, over <-chan struct{}) {
	p.mu.Lock()
	t, ok := p.transports[id]
	if ok = ok && t.over == over; ok {
		delete(p.transports, id)
	}
	p.mu.Unlock()
	if ok {
		t.closeIdle()
	}
}

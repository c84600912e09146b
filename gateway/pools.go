package gateway

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"cube"
)

// pools are the connections into sandboxes: a transport for each sandbox, so
// that its idle connections can be closed with it.
type pools struct {
	dial func(context.Context, target) (net.Conn, error)
	done func(cube.SandboxID) <-chan struct{} // closed once a sandbox has ended

	mu         sync.Mutex // guards transports
	transports map[cube.SandboxID]*http.Transport
}

const (
	// idlePerPort is how many connections to a port are kept open.
	idlePerPort = 16
	// idleTimeout is for how long. The sandbox's own servers may close sooner;
	// then net/http dials again.
	idleTimeout = 90 * time.Second
	// maxAnswerHeader bounds the headers of an answer, in bytes: they are held
	// in memory, and the sandbox chooses them.
	maxAnswerHeader = 256 << 10
)

// RoundTrip implements http.RoundTripper for requests that have a target.
func (p *pools) RoundTrip(r *http.Request) (*http.Response, error) {
	return p.of(targetOf(r.Context()).id).RoundTrip(r)
}

// of returns the transport of a sandbox.
func (p *pools) of(id cube.SandboxID) *http.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.transports[id]; ok {
		return t
	}
	t := &http.Transport{
		// A dial may outlive the request that asked for it, so the target is
		// read from the address.
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			match := hostLabel.FindStringSubmatch(host)
			if match == nil {
				return nil, errBadID
			}
			t, err := parseTarget(match[2], match[1])
			if err != nil {
				return nil, err
			}
			return p.dial(ctx, t)
		},
		MaxIdleConnsPerHost:    idlePerPort,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true,
		ReadBufferSize:         32 << 10,
		WriteBufferSize:        32 << 10,
	}
	if p.transports == nil {
		p.transports = map[cube.SandboxID]*http.Transport{}
	}
	p.transports[id] = t
	done := p.done(id)
	go func() {
		<-done
		p.drop(id)
	}()
	return t
}

// drop forgets a sandbox that has ended and closes what is open to it.
func (p *pools) drop(id cube.SandboxID) {
	p.mu.Lock()
	t := p.transports[id]
	delete(p.transports, id)
	p.mu.Unlock()
	if t != nil {
		t.CloseIdleConnections()
	}
}

package callback

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// idleConnections are kept for the next questions. net/http's own two made 273
// connections for 4,000 questions.
const idleConnections = 256

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// newTransport makes connections with one reading of the files.
func newTransport(c *Config, certificates *tls.Config) *http.Transport {
	dial := c.dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
			defer cancel()
			return dial(ctx, network, address)
		},
		TLSClientConfig:        certificates,
		TLSHandshakeTimeout:    c.ConnectTimeout,
		MaxIdleConns:           idleConnections * len(c.URLs),
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxAnswerBytes,
		DisableCompression:     true, // it would send Accept-Encoding
	}
	if c.UseProxy { // else keys go through no proxy that the environment happens to name
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

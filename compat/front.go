package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"cube/internal/internet"
)

// frontAddr is where the domain is on the internet. The machine that the server
// runs on is another: a sandbox that asks for the domain goes out and comes in.
const frontAddr = "203.0.113.80"

// serveFront puts before the server at address what a user has for a domain: a
// host on the internet under all of the domain's names, HTTP and HTTPS. It changes
// nothing of a request or an answer.
func serveFront(i *internet.Internet, machine *internet.Space, address string) error {
	to, err := url.Parse(address)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
			// As the client sent it, queries that Go finds odd too.
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			r.SetXForwarded() // links to this server are links to here
		},
		Transport:     transport(machine),
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	// A server may answer before it has the whole of a request, and end: without
	// this, net/http reads the rest beside the proxy and breaks a stream now and then.
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		proxy.ServeHTTP(w, r)
	})
	i.SetName("*."+domain, frontAddr)
	return i.Host(frontAddr, domain, handler)
}

// transport connects from a network namespace.
func transport(from *internet.Space) *http.Transport {
	return &http.Transport{
		DisableCompression: true, MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return from.Dial(ctx, network, address)
		},
	}
}

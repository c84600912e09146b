// Package admin is the operators' listener: metrics, whether the server does its
// work, and forgetting remembered decisions.
//
// It asks nobody who they are. It must never listen where users can reach it: on
// this machine alone, or behind something that asks. It must never answer a
// browser, which any page can send to an address of its own machine: requests
// with an Origin, and those to a name, are refused.
package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"cube"
	"cube/internal/httperror"
)

// Config is what an operator may see and do.
type Config struct {
	Metrics http.Handler // nil: there are none
	// Purge forgets remembered decisions, those on their way included. nil: there
	// is nothing to forget.
	Purge func()
	// Ready returns why the server should get no requests now. nil: it always may.
	Ready func(context.Context) error
	Log   *slog.Logger // of reasons not to be ready; nil for slog's default
}

// Handler serves the operators. It has no limits of time or size: its server
// sets them.
func Handler(c Config) http.Handler {
	mux := http.NewServeMux()
	if c.Metrics != nil {
		mux.Handle("GET /metrics", c.Metrics)
	}
	mux.HandleFunc("POST /auth/purge", func(w http.ResponseWriter, _ *http.Request) {
		if c.Purge != nil {
			c.Purge()
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(w, r, c) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		httperror.Write(w, cube.Errorf(cube.NotFound, "There is nothing at this path, or not by this method: there are GET /metrics, GET /healthz, GET /readyz and POST /auth/purge"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if err := refuseBrowsers(r); err != nil {
			httperror.Write(w, err)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func ready(w http.ResponseWriter, r *http.Request, c Config) {
	if c.Ready != nil {
		if err := c.Ready(r.Context()); err != nil {
			log := c.Log
			if log == nil {
				log = slog.Default()
			}
			log.Warn("the server is not ready", "error", err)
			httperror.Write(w, cube.Errorf(cube.Unavailable, "The server is not ready: its log says why"))
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// refuseBrowsers refuses what a page could have had a browser send: with an
// Origin, or to a name that the page's owner has pointed at this machine.
func refuseBrowsers(r *http.Request) error {
	if len(r.Header.Values("Origin")) > 0 {
		return cube.Errorf(cube.Forbidden, "Browsers are refused here: send no Origin, as curl and Prometheus do")
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return nil
	}
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err != nil {
		return cube.Errorf(cube.Forbidden, "Names are refused here, as a page can have any: write the address of the machine, such as 127.0.0.1, into the URL")
	}
	return nil
}

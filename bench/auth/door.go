package main

import (
	"context"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"cube/auth"
	"cube/auth/cache"
	"cube/auth/callback"
	"cube/auth/decision"
	"cube/internal/requestid"
)

// runDoor is our system under test: the door as the server has it, and behind it
// a reverse proxy, because the others are proxies too.
func runDoor(args []string) error {
	flags := flag.NewFlagSet("door", flag.ExitOnError)
	listen := flags.String("listen", "", "address to listen on")
	backend := flags.String("backend", "", "URL of the backend")
	callback := flags.String("callback", "", "URL of the auth service; empty for no door at all")
	timeout := flags.Duration("timeout", 10*time.Second, "for one question")
	cacheTTL := flags.Duration("cache-ttl", 0, "how long answers are remembered")
	if err := flags.Parse(args); err != nil {
		return err
	}
	target, err := url.Parse(*backend)
	if err != nil {
		return err
	}
	var handler http.Handler = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}
	server := &http.Server{Addr: *listen}
	if *callback != "" {
		door, err := newDoor(*callback, *timeout, *cacheTTL)
		if err != nil {
			return err
		}
		handler = requestid.Middleware(door.Wrap(handler))
		auth.ConfigureServer(server)
	}
	server.Handler = handler
	return server.ListenAndServe()
}

// newDoor is the one place that knows the door's settings. The decider stands
// where the server's own keys do, for the door takes any there.
func newDoor(url string, timeout, cacheTTL time.Duration) (*auth.Door, error) {
	silent := slog.New(slog.DiscardHandler) // the others log nothing either
	client, err := callback.New(callback.Config{URLs: []string{url}, Timeout: timeout, Retries: 1, Log: silent})
	if err != nil {
		return nil, err
	}
	var decider decision.Decider = client
	if cacheTTL > 0 {
		decider = cache.New(client, cache.Config{TTL: cacheTTL, Log: silent})
	}
	return auth.New(auth.Config{Keys: always{decider}, Log: silent})
}

// always decides on every request.
type always struct{ decision.Decider }

func (always) InUse(context.Context) (bool, error) { return true, nil }

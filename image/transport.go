package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	maxRedirects = 10
	// attempts is how often one question is asked. The waits between begin at
	// firstWait and double; a registry may ask for up to longestWait.
	attempts    = 5
	firstWait   = 500 * time.Millisecond
	longestWait = 30 * time.Second
	// maxErrorBody is what is read of an answer that is an error.
	maxErrorBody = 32 << 10
)

// busyError is a registry that wants to be asked later than anybody waits here.
type busyError struct{ after time.Duration }

func (e *busyError) Error() string {
	return fmt.Sprintf("the registry asks to come back in %s", e.after)
}

// transport is how registries are asked: by HTTPS unless the operator says
// otherwise, at allowed addresses alone, again where that may help, and with
// bodies that end.
type transport struct {
	base  http.RoundTripper
	rules *hostRules
	stall time.Duration                              // how long nothing may come
	wait  func(context.Context, time.Duration) error // time.Sleep with an end
}

func newTransport(rules *hostRules) *transport {
	return &transport{
		base: &http.Transport{
			DialContext:            dialer(rules),
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    15 * time.Second,
			ResponseHeaderTimeout:  time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
			IdleConnTimeout:        30 * time.Second,
			MaxIdleConnsPerHost:    4,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // digests and ranges are of what is sent
		},
		rules: rules,
		stall: time.Minute,
		wait:  wait,
	}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	hops := 0
	for r := req; r.Response != nil && r.Response.Request != nil; r = r.Response.Request {
		if hops++; hops > maxRedirects {
			return nil, errors.New("it redirects without an end")
		}
	}
	ctx, cancel := context.WithCancel(req.Context())
	out := req.Clone(ctx)
	out.URL.Scheme = "https"
	if t.rules.insecure(out.URL.Host) {
		out.URL.Scheme = "http"
	}
	resp, err := t.ask(out)
	if err != nil {
		cancel()
		return nil, err
	}
	b := &body{ctx: ctx, cancel: cancel, transport: t, request: out, current: resp.Body, stall: t.stall}
	resp.Body = b
	if resp.StatusCode != http.StatusOK {
		b.rest, b.truncate = maxErrorBody, true
		return resp, nil
	}
	b.rest = bodyLimit(req.Context())
	b.resumable = req.Method == http.MethodGet
	if resp.ContentLength > b.rest {
		limit := b.rest
		_ = b.Close()
		return nil, &tooLongError{limit: limit, size: resp.ContentLength}
	}
	return resp, nil
}

// ask asks again where that may help. What has a body of its own is asked once.
func (t *transport) ask(req *http.Request) (*http.Response, error) {
	for i := 1; ; i++ {
		resp, err := t.base.RoundTrip(req)
		last := i == attempts || req.Body != nil && req.Body != http.NoBody
		var pause time.Duration
		switch {
		case err != nil:
			if last || !temporary(req.Context(), err) {
				return nil, err
			}
		default:
			if !passing(resp.StatusCode) {
				return resp, nil
			}
			pause = retryAfter(resp.Header.Get("Retry-After"))
			if last || pause > longestWait {
				if resp.StatusCode == http.StatusTooManyRequests {
					_ = resp.Body.Close()
					return nil, &busyError{after: pause}
				}
				return resp, nil
			}
			_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody) // so that the connection is used again
			_ = resp.Body.Close()
		}
		if pause == 0 {
			pause = firstWait << (i - 1)
			pause += rand.N(pause / 4)
		}
		if err := t.wait(req.Context(), pause); err != nil {
			return nil, err
		}
	}
}

// temporary tells whether an error may be gone the next time.
func temporary(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if _, refused := errors.AsType[*refusedAddressError](err); refused {
		return false
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok {
		return !unknown.IsNotFound
	}
	if network, ok := errors.AsType[net.Error](err); ok && network.Timeout() {
		return true
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true // refused, reset
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// passing tells whether a status is about the moment, not about the question.
func passing(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter reads a header of seconds or a date; 0 if it says nothing.
func retryAfter(header string) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (t *transport) closeIdle() {
	if base, ok := t.base.(*http.Transport); ok {
		base.CloseIdleConnections()
	}
}

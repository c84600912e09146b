package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"cube/internal/requestid"
)

// Defaults and bounds of a question. The service is the operator's, and may
// still be broken, slow or not the one that was meant.
const (
	defaultTimeout        = 10 * time.Second
	defaultConnectTimeout = 2 * time.Second
	// idleConnections are kept for the next questions. net/http's own two made
	// 273 connections for 4,000 questions.
	idleConnections = 256
	maxAnswerBytes  = 64 << 10 // of headers, and of body
)

// callback asks the operator's service.
type callback struct {
	url     string
	timeout time.Duration
	client  *http.Client
}

// question is all that the service is told.
type question struct {
	credential credential
	path       string
	method     string
	requestID  string // "" for none
}

func newCallback(c Config) (*callback, error) {
	u, err := url.Parse(c.CallbackURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Fragment != "" {
		// The URL itself may hold a secret.
		return nil, errors.New("--auth-callback-url: write the URL of your service, such as https://auth.example.com/verify")
	}
	timeout, connect := c.Timeout, c.ConnectTimeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	if connect <= 0 {
		connect = defaultConnectTimeout
	}
	return &callback{
		url:     c.CallbackURL,
		timeout: timeout,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                  nil, // keys must not go through a proxy that the environment names
				DialContext:            (&net.Dialer{Timeout: connect}).DialContext,
				TLSHandshakeTimeout:    connect,
				MaxIdleConns:           idleConnections,
				MaxIdleConnsPerHost:    idleConnections,
				IdleConnTimeout:        90 * time.Second,
				MaxResponseHeaderBytes: maxAnswerBytes,
				DisableCompression:     true,
			},
			// 3xx is no yes, and the key is for this service alone.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func (c *callback) close() { c.client.CloseIdleConnections() }

// ask returns whether the answer is 200. An error means that there is no
// answer: it does not hold the URL's secrets or the credential.
func (c *callback) ask(ctx context.Context, q question) (allowed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, http.NoBody)
	if err != nil {
		return false, errors.New("the callback's URL cannot be asked")
	}
	req.Header = http.Header{
		q.credential.header: {q.credential.value},
		"X-Request-Path":    {q.path},
		"X-Request-Method":  {q.method},
		"User-Agent":        {"cube-api"},
		// Never sent. It tells net/http that asking twice does no harm, so that
		// it asks again, once, when an idle connection was closed by the other
		// side before any answer: without it that is an error, 10 times in 20.
		"X-Idempotency-Key": nil,
	}
	if q.requestID != "" {
		req.Header.Set(requestid.Header, q.requestID)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return false, withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		// A refusal needs no body. What is short is read all the same, so that
		// the connection can be used again.
		_, _ = io.CopyN(io.Discard, resp.Body, maxAnswerBytes)
		return false, nil
	}
	// An answer that breaks off was not given; one that never ends was, and the
	// connection is closed on it.
	if _, err := io.CopyN(io.Discard, resp.Body, maxAnswerBytes); err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("reading the answer: %w", withoutURL(err))
	}
	return true, nil
}

// withoutURL removes the URL from an error of net/http: it may hold a password
// or a token.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

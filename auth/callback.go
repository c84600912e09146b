package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"cube/auth/decision"
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

func newCallback(c Config) (*callback, error) {
	if err := checkCallbackURL(c.CallbackURL); err != nil {
		return nil, fmt.Errorf("--auth-callback-url: %w", err)
	}
	connect := cmp.Or(c.ConnectTimeout, defaultConnectTimeout)
	return &callback{
		url:     c.CallbackURL,
		timeout: cmp.Or(c.Timeout, defaultTimeout),
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                  nil, // keys must not go through a proxy that the environment names
				DialContext:            (&net.Dialer{Timeout: connect}).DialContext,
				TLSHandshakeTimeout:    connect,
				MaxIdleConns:           idleConnections,
				MaxIdleConnsPerHost:    idleConnections,
				IdleConnTimeout:        90 * time.Second,
				MaxResponseHeaderBytes: maxAnswerBytes,
				DisableCompression:     true, // it would send Accept-Encoding
			},
			// 3xx is no yes, and the key is for this service alone.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// checkCallbackURL says what to write instead of a URL that cannot work. It
// shows nothing of it: it may hold a secret.
func checkCallbackURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Fragment != "" {
		return errors.New("write the URL of your service, such as https://auth.example.com/verify")
	}
	if u.User != nil {
		return errors.New("write the URL without a user and a password: they would be sent as Authorization, beside the client's key. A secret of your own can stand in the path or the query")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("write a port from 1 to 65535 after the host, or none")
		}
	}
	return nil
}

func (c *callback) close() { c.client.CloseIdleConnections() }

// Decide implements decision.Decider.
func (c *callback) Decide(ctx context.Context, q decision.Question) (decision.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, http.NoBody)
	if err != nil {
		return decision.Answer{}, loggable(err)
	}
	req.Header = headersOf(q)
	resp, err := c.client.Do(req)
	if err != nil {
		return decision.Answer{}, loggable(err)
	}
	defer resp.Body.Close()
	answer := decision.Answer{Status: resp.StatusCode, Source: decision.FromCallback}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return answer, nil // what follows is no body, and nothing would end reading it
	}
	// Read to its end, for the connection can be used again then. One that has
	// no end costs its connection and changes nothing.
	_, err = io.CopyN(io.Discard, resp.Body, maxAnswerBytes)
	if resp.StatusCode != http.StatusOK {
		return answer, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return decision.Answer{}, loggable(err) // a yes that breaks off was not given
	}
	if answer.Identity, err = identityOf(resp.Header); err != nil {
		return decision.Answer{}, err
	}
	answer.Allowed = true
	return answer, nil
}

// headersOf are all headers of a question.
func headersOf(q decision.Question) http.Header {
	name, credential := q.Credential.Header()
	h := http.Header{
		name:               {credential},
		"X-Request-Path":   {q.Path},
		"X-Request-Method": {q.Method},
		"User-Agent":       {"cube-api"},
		// Never sent. It tells net/http that asking twice does no harm, so that
		// it asks again on another connection when an idle one turns out to be
		// closed by the other side. Without it that is an error, 10 times in 20.
		// A new connection that breaks is not tried again.
		"X-Idempotency-Key": nil,
	}
	if q.RequestID != "" {
		h.Set(requestid.Header, q.RequestID)
	}
	return h
}

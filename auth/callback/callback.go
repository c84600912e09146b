// Package callback asks the operator's service whether a request may go on.
//
// The service is the operator's, and may still be broken, slow, down or not the
// one that was meant: a question ends in time, costs a bounded amount, and is a
// yes only when the service said a whole 200. The package must never take
// anything else for a yes, follow a redirect, send more of a client than the
// question holds, or put a credential, a key, a URL or what the other side sent
// into an error or a log.
package callback

import (
	"cmp"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"cube/auth/decision"
)

const (
	defaultTimeout        = 10 * time.Second
	defaultConnectTimeout = 2 * time.Second
	defaultInFlight       = 1024
	defaultErrorsToOpen   = 5
	maxAnswerBytes        = 64 << 10 // of headers, and of body
)

// Config is whom to ask, and how. A zero is the default where one is given.
type Config struct {
	// Name begins the flags that New's errors name. Default "--auth-callback".
	Name string
	// URLs are the service and its fallbacks, http or https, in the order in
	// which they are asked while the one before gives no answer. An answer of
	// any status is one, 500 included.
	URLs []string
	// Timeout bounds a whole question, waiting included. A URL gets an equal
	// share of what is left of it with those after it. Default 10 s.
	Timeout time.Duration
	// ConnectTimeout bounds connecting, and then the TLS handshake. Default 2 s.
	ConnectTimeout time.Duration
	// Retries is how often a question is asked again whose connection broke
	// before the first byte of an answer. An idle connection that turns out to
	// be closed is no such case, and never an error.
	Retries int
	// InFlight bounds the questions that one URL has at once; the others wait.
	// The one that tries whether a URL is back comes on top. Default 1024.
	InFlight int
	// ErrorsToOpen is after how many questions in a row without an answer a URL
	// is asked one at a time until it answers. Default 5.
	ErrorsToOpen int
	// CAFile holds the authorities, in PEM, that may sign the service's
	// certificate. Default "": those of the system.
	CAFile string
	// CertFile and KeyFile are what we show to the service, in PEM.
	CertFile, KeyFile string
	// UseProxy sends questions through the proxy that the environment names,
	// which sees the credentials if the URL is http.
	UseProxy bool
	// RequireHeader is "Name" or "Name: value": a 200 without exactly one such
	// header is a refusal.
	RequireHeader string
	// Headers are "Name: value", and stand on each question.
	Headers []string
	// SigningKeyFile holds the key that signs each question, at least 16 bytes
	// beside the blanks around it. See Sign.
	SigningKeyFile string
	// Observe is told of each question how long it took and which of Outcomes
	// it had. Default nil.
	Observe func(took time.Duration, outcome string)
	// Log gets a line when files that have changed cannot be used. Default
	// slog.Default().
	Log *slog.Logger

	dial dialer // of tests; nil: of the network
}

// Client asks. It may be used concurrently.
type Client struct {
	timeout  time.Duration
	retries  int
	urls     []string
	places   []chan struct{} // of each URL, one taken for each question in flight
	breaker  *breaker
	files    *files
	headers  []header
	required header // no name: none
	observe  func(time.Duration, string)

	counters
	waiting, inFlight atomic.Int64

	// life is that of the probes, which belong to no request.
	life context.Context
	end  context.CancelFunc
}

// New checks the settings, reads the files and makes a client. Close ends it. It
// asks nothing yet. Its errors name the flag and say what to write instead; they
// show nothing that may be a secret.
func New(c Config) (*Client, error) {
	c.Name = cmp.Or(c.Name, "--auth-callback")
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, defaultConnectTimeout)
	c.InFlight = cmp.Or(c.InFlight, defaultInFlight)
	c.ErrorsToOpen = cmp.Or(c.ErrorsToOpen, defaultErrorsToOpen)
	c.Log = cmp.Or(c.Log, slog.Default())
	headers, required, err := c.check()
	if err != nil {
		return nil, err
	}
	files, err := openFiles(c)
	if err != nil {
		return nil, err
	}
	client := &Client{
		timeout:  c.Timeout,
		retries:  c.Retries,
		urls:     c.URLs,
		breaker:  newBreaker(len(c.URLs), c.ErrorsToOpen),
		files:    files,
		headers:  headers,
		required: required,
		observe:  c.Observe,
	}
	for range c.URLs {
		client.places = append(client.places, make(chan struct{}, c.InFlight))
	}
	client.life, client.end = context.WithCancel(context.Background())
	return client, nil
}

// Close ends the questions that try whether a URL is back, and closes idle
// connections. Other questions in flight get their answers.
func (c *Client) Close() {
	c.end()
	c.files.current.Load().transport.CloseIdleConnections()
}

// Decide implements decision.Decider: a 200, with the required header if there
// is one, is a yes, and every other answer is a no. When ctx ends before there
// is an answer, the error is ctx's, and the service is not blamed.
func (c *Client) Decide(ctx context.Context, q decision.Question) (decision.Answer, error) {
	began := time.Now()
	asking, cancel := context.WithTimeoutCause(ctx, c.timeout, errSlow)
	defer cancel()
	answer, err := decision.Answer{}, error(nil)
	r, err := c.ask(asking, &q)
	if err == nil {
		answer, err = r.decision(c.required)
	}
	c.count(time.Since(began), answer.Allowed, err)
	return answer, err
}

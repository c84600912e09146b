package callback

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"cube/auth/decision"
	"cube/internal/requestid"
)

// reply is what counts of an answer that came whole.
type reply struct {
	status int
	header http.Header
}

// exchange asks a URL and gets its answer. An error means that there is none; it
// can be logged.
func (c *Client) exchange(ctx context.Context, url int, q *decision.Question) (reply, error) {
	c.inFlight.Add(1)
	defer c.inFlight.Add(-1)
	for retries := c.retries; ; {
		var t trace
		r, err := c.post(ctx, url, q, &t)
		if !errors.Is(err, errNoByte) {
			return r, err
		}
		// An idle connection that was closed is nobody's fault, and each such
		// try is one connection less. net/http tries again by itself, but not
		// when writing failed half-way.
		if !t.reused.Load() {
			if retries == 0 {
				return reply{}, errBroken
			}
			retries--
		}
		c.retried.Add(1)
	}
}

// post is one try. It may be made again after errNoByte.
func (c *Client) post(ctx context.Context, url int, q *decision.Question, t *trace) (reply, error) {
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, t.hooks()), http.MethodPost, c.urls[url], http.NoBody)
	if err != nil {
		return reply{}, loggable(ctx, err)
	}
	material := c.files.latest()
	req.Header = c.question(q, material.signingKey)
	// No http.Client, which follows redirects: 3xx is no yes, and the key is for
	// this service alone.
	resp, err := material.transport.RoundTrip(req)
	if err != nil {
		if t.broke(ctx, err) {
			return reply{}, errNoByte
		}
		return reply{}, loggable(ctx, err)
	}
	defer resp.Body.Close()
	r := reply{resp.StatusCode, resp.Header}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return r, nil // what follows is no body, and nothing would end reading it
	}
	// Read to its end, for the connection can be used again then. One that has
	// no end costs its connection and changes nothing.
	_, err = io.CopyN(io.Discard, resp.Body, maxAnswerBytes)
	if resp.StatusCode == http.StatusOK && err != nil && !errors.Is(err, io.EOF) {
		return reply{}, loggable(ctx, err) // a yes that breaks off was not given
	}
	return r, nil
}

// question are all headers of a question.
func (c *Client) question(q *decision.Question, signingKey []byte) http.Header {
	name, credential := q.Credential.Header()
	h := http.Header{
		name:               {credential},
		"X-Request-Path":   {q.Path},
		"X-Request-Method": {q.Method},
		"User-Agent":       {"cube-api"},
		// Never sent. It tells net/http that asking twice does no harm, so that
		// it asks again on another connection when an idle one turns out to be
		// closed by the other side. Without it that is an error, 10 times in 20.
		"X-Idempotency-Key": nil,
	}
	if q.RequestID != "" {
		h[requestid.Header] = []string{q.RequestID}
	}
	for _, own := range c.headers {
		h[own.name] = []string{own.value}
	}
	if signingKey != nil {
		timestamp := strconv.FormatInt(time.Now().Unix(), 10)
		h[TimestampHeader] = []string{timestamp}
		h[SignatureHeader] = []string{Sign(signingKey, timestamp, h)}
	}
	return h
}

// trace is how far a try got. net/http's goroutines write it.
type trace struct {
	connected atomic.Bool // to somebody
	reused    atomic.Bool // the connection had answered a question before
	answered  atomic.Bool // a byte of the answer came
}

func (t *trace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { // more than once when net/http tries again by itself
			t.reused.Store(info.Reused)
			t.connected.Store(true)
		},
		GotFirstResponseByte: func() { t.answered.Store(true) },
	}
}

// broke tells whether the connection broke before any byte of an answer, so that
// asking again does no harm and may help. What the other side's TLS says is no
// such case: it would say it again.
func (t *trace) broke(ctx context.Context, err error) bool {
	if over(ctx) != nil || !t.connected.Load() || t.answered.Load() {
		return false
	}
	network, ok := errors.AsType[*net.OpError](err)
	return !ok || (network.Op != "remote error" && network.Op != "local error")
}

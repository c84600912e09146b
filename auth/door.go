// Package auth is the door: every request for the API passes it, and whatever
// its path is decided here before anything else looks at it.
//
// The decision is delegated. Without a callback URL every request is allowed;
// with one, the operator's service is asked once for each request, with the
// credential, the path and the method, and 200 is the only yes. The package
// must never know a sandbox, nor more of the routes than /health and where a
// name may hold a slash; never log a credential; and when in doubt say no.
package auth

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"cube"
	"cube/internal/httperror"
	"cube/internal/requestid"
)

// Exempt says what needs no credential.
type Exempt string

// The exemptions.
const (
	ExemptHealth Exempt = "health" // GET and HEAD of exactly /health
	ExemptNone   Exempt = "none"
)

// Config is how the door decides.
type Config struct {
	// CallbackURL is the operator's service, http or https. Default "": every
	// request is allowed and no credential is looked at.
	CallbackURL string
	// Timeout bounds one question from connecting to the end of the answer.
	// Default 10 s.
	Timeout time.Duration
	// ConnectTimeout bounds connecting, and then the TLS handshake. Default 2 s.
	ConnectTimeout time.Duration
	// Exempt is what needs no credential. Default ExemptHealth.
	Exempt Exempt
	// Log gets one line for each question without an answer. Default
	// slog.Default().
	Log *slog.Logger
}

// Door decides on requests. It may be used concurrently.
type Door struct {
	callback *callback // nil: open
	exempt   Exempt
	log      *slog.Logger
}

// The constant sentences of a refusal: they tell a stranger nothing.
const (
	messageNoCredential = "Unauthorized: send your key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
	messageMalformed    = "Unauthorized: the credential cannot be read: send one header, 'Authorization: Bearer KEY' or 'X-API-Key: KEY', of at most 8 KiB without blanks in the key"
	messageRefused      = "Unauthorized: the key does not allow this request"
	messageUnavailable  = "Authentication is not available: the operator finds the cause in the server's log, under this answer's X-Request-Id"
	messageMethod       = "This method is never served: send one of " + servedMethods
)

// New checks the settings and makes a door. Its errors name the flag and say
// what to write instead; they show nothing of the URL, which may hold a secret.
func New(c Config) (*Door, error) {
	d := &Door{exempt: cmp.Or(c.Exempt, ExemptHealth), log: cmp.Or(c.Log, slog.Default())}
	if d.exempt != ExemptHealth && d.exempt != ExemptNone {
		return nil, fmt.Errorf("--auth-exempt: write %q or %q", ExemptHealth, ExemptNone)
	}
	if c.CallbackURL == "" {
		return d, nil
	}
	var err error
	d.callback, err = newCallback(c)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Close closes idle connections to the operator's service.
func (d *Door) Close() {
	if d.callback != nil {
		d.callback.close()
	}
}

// Wrap puts the door before the API. The order of its steps is the contract.
func (d *Door) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowOrigins(w.Header())
		if refuseMethod(w, r) {
			return
		}
		dropTrustHeaders(r.Header)
		if isPreflight(r) {
			answerPreflight(w, r)
			return
		}
		if err := d.decide(r); err != nil {
			answerBeforeBody(w, r)
			httperror.Write(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Strip is what also holds for traffic into sandboxes, on which nobody is
// asked: the agent there and the users' own servers check their own keys.
func (d *Door) Strip(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuseMethod(w, r) {
			return
		}
		dropTrustHeaders(r.Header)
		next.ServeHTTP(w, r)
	})
}

// decide returns nil for a request that may go on.
func (d *Door) decide(r *http.Request) error {
	exempt := d.exempt == ExemptHealth && isHealth(r)
	if d.callback == nil || exempt {
		return checkPath(r)
	}
	cred, err := credentialOf(r.Header)
	switch {
	case errors.Is(err, errNoCredential):
		return cube.Errorf(cube.Unauthorized, messageNoCredential)
	case err != nil:
		return cube.Errorf(cube.Unauthorized, messageMalformed)
	}
	if err := checkPath(r); err != nil {
		return err
	}
	allowed, err := d.callback.ask(r.Context(), question{
		credential: cred,
		path:       wirePath(r),
		method:     r.Method,
		requestID:  requestid.From(r.Context()),
	})
	if err != nil {
		if r.Context().Err() == nil { // else the client went away, and nobody is at fault
			d.log.Error("the auth callback gave no answer", "request", requestid.From(r.Context()), "error", err)
		}
		return cube.WrapError(cube.Internal, err, messageUnavailable)
	}
	if !allowed {
		return cube.Errorf(cube.Unauthorized, messageRefused)
	}
	return nil
}

// isHealth tells whether a request is exactly GET or HEAD /health. One with a
// query is another request, and asks: what is free is one string.
func isHealth(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.RequestURI == "/health"
}

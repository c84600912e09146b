// Package auth is the door: every request for the API passes it, and whatever
// its path is decided here before anything else looks at it.
//
// The decision is delegated: to the operator's service, which is asked once for
// each request, with the credential, the path and the method, and whose 200 is
// the only yes; without one to the keys of this server, once there is one; with
// neither every request is allowed. The package must never know a sandbox, nor
// more of the routes than /health and where a name may hold a slash; never log a
// credential; and when in doubt say no.
package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"cube"
	"cube/auth/decision"
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

// Keys are the keys of this server's own.
type Keys interface {
	decision.Decider
	// InUse tells whether there is a key, or ever was: only before the first one
	// is the door open.
	InUse(ctx context.Context) (bool, error)
}

// Config is how the door decides.
type Config struct {
	// CallbackURL is the operator's service, http or https. Default "": the keys
	// decide.
	CallbackURL string
	// Keys decide where there is no callback. Default nil: then every request is
	// allowed, and no credential is looked at.
	Keys Keys
	// FingerprintKey makes the fingerprints of credentials. Default: a random
	// one, with which they are others after a restart.
	FingerprintKey []byte
	// Timeout bounds one question from connecting to the end of the answer.
	// Default 10 s.
	Timeout time.Duration
	// ConnectTimeout bounds connecting, and then the TLS handshake. Default 2 s.
	ConnectTimeout time.Duration
	// Tenancy says what an identity must have: under it a yes for nobody is 403.
	// Default "": as cube.TenancyOff.
	Tenancy cube.Tenancy
	// Exempt is what needs no credential. Default ExemptHealth.
	Exempt Exempt
	// Log gets one line for each question without an answer. Default
	// slog.Default().
	Log *slog.Logger
}

// Door decides on requests. It may be used concurrently.
type Door struct {
	callback     *callback // nil: the keys decide
	keys         Keys      // nil: open
	fingerprints *fingerprints
	tenancy      cube.Tenancy
	exempt       Exempt
	log          *slog.Logger
}

// The constant sentences of a refusal: they tell a stranger nothing.
const (
	messageNoCredential = "Unauthorized: send your key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
	messageMalformed    = "Unauthorized: the credential cannot be read: send one header, 'Authorization: Bearer KEY' or 'X-API-Key: KEY', of at most 8 KiB without blanks in the key"
	messageRefused      = "Unauthorized: the key does not allow this request"
	messageReadOnly     = "Forbidden: this key may only read"
	messageNobody       = "Forbidden: this server keeps what belongs to each %s apart, and it was not told yours: ask its operator"
	messageUnavailable  = "Authentication is not available: the operator finds the cause in the server's log, under this answer's X-Request-Id"
	messageMethod       = "This method is never served: send one of " + servedMethods
)

// New checks the settings and makes a door. Its errors name the flag and say
// what to write instead; they show nothing of the URL, which may hold a secret.
func New(c Config) (*Door, error) {
	d := &Door{
		keys:         c.Keys,
		fingerprints: newFingerprints(c.FingerprintKey),
		tenancy:      cmp.Or(c.Tenancy, cube.TenancyOff),
		exempt:       cmp.Or(c.Exempt, ExemptHealth),
		log:          cmp.Or(c.Log, slog.Default()),
	}
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
		id, err := d.decide(r)
		if err != nil {
			answerBeforeBody(w, r)
			httperror.Write(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(cube.WithIdentity(r.Context(), id)))
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

// decide returns who makes a request that may go on.
func (d *Door) decide(r *http.Request) (cube.Identity, error) {
	if d.exempt == ExemptHealth && isHealth(r) {
		return cube.Identity{}, checkPath(r)
	}
	decider, err := d.decider(r.Context())
	if err != nil {
		return cube.Identity{}, d.noAnswer(r, err)
	}
	if decider == nil {
		return cube.Identity{}, checkPath(r)
	}
	cred, err := credentialOf(r.Header)
	switch {
	case errors.Is(err, errNoCredential):
		return cube.Identity{}, cube.Errorf(cube.Unauthorized, messageNoCredential)
	case err != nil:
		return cube.Identity{}, cube.Errorf(cube.Unauthorized, messageMalformed)
	}
	if err := checkPath(r); err != nil {
		return cube.Identity{}, err
	}
	fingerprint := d.fingerprints.of(cred.Secret)
	answer, err := decider.Decide(r.Context(), decision.Question{
		Credential:  cred,
		Path:        wirePath(r),
		Method:      r.Method,
		RequestID:   requestid.From(r.Context()),
		Fingerprint: fingerprint,
	})
	switch {
	case err != nil:
		return cube.Identity{}, d.noAnswer(r, err)
	case answer.Allowed && d.isNobody(answer.Identity):
		return cube.Identity{}, cube.Errorf(cube.Forbidden, messageNobody, d.tenancy)
	case answer.Allowed:
		answer.Identity.Fingerprint = fingerprint
		return answer.Identity, nil
	case answer.Source == decision.FromKey && answer.Status == http.StatusForbidden:
		return cube.Identity{}, cube.Errorf(cube.Forbidden, messageReadOnly)
	}
	return cube.Identity{}, cube.Errorf(cube.Unauthorized, messageRefused)
}

// isNobody tells whether the tenancy has no place for an identity.
func (d *Door) isNobody(id cube.Identity) bool {
	return d.tenancy != cube.TenancyOff && d.tenancy.Tenant(id.Owner()) == "" && !id.Operator()
}

// decider returns who decides; nil if everybody may do everything.
func (d *Door) decider(ctx context.Context) (decision.Decider, error) {
	if d.callback != nil {
		return d.callback, nil
	}
	if d.keys == nil {
		return nil, nil
	}
	inUse, err := d.keys.InUse(ctx)
	if err != nil || !inUse {
		return nil, err
	}
	return d.keys, nil
}

// noAnswer refuses a request on which nobody said yes or no.
func (d *Door) noAnswer(r *http.Request, err error) error {
	if r.Context().Err() == nil { // else the client went away, and nobody is at fault
		d.log.Error(d.silence(), "request", requestid.From(r.Context()), "error", err)
	}
	return cube.WrapError(cube.Internal, err, messageUnavailable)
}

// silence says in the log who gave no answer.
func (d *Door) silence() string {
	if d.callback != nil {
		return "the auth callback gave no answer"
	}
	return "the keys cannot be read"
}

// isHealth tells whether a request is exactly GET or HEAD /health. One with a
// query is another request, and asks: what is free is one string.
func isHealth(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.RequestURI == "/health"
}

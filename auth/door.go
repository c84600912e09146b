// Package auth is the door: every request for the API passes it, and whatever
// its path is decided here before anything else looks at it.
//
// The decision is delegated: to the operator's service, which is asked with the
// credential, the path and the method, and whose 200 is the only yes; without
// one to the keys of this server; with neither every request is allowed. The
// package must never know a sandbox, nor more of the routes than /health and
// where a name may hold a slash; never log a credential; and when in doubt say
// no.
package auth

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"cube"
	"cube/auth/cache"
	"cube/auth/callback"
	"cube/auth/decision"
	"cube/internal/requestid"
)

// Exempt says what needs no credential.
type Exempt string

// The exemptions.
const (
	ExemptHealth Exempt = "health" // GET and HEAD of exactly /health
	ExemptNone   Exempt = "none"
)

// Keys are the keys of this server's own. They are asked where there is no
// callback.
type Keys interface {
	decision.Decider
	// InUse tells whether there is a key, or ever was: only before the first one
	// is the door open.
	InUse(ctx context.Context) (bool, error)
}

// Config is what a door is made of.
type Config struct {
	Rules
	// Keys decide where there is no callback. Default nil: then every request is
	// allowed, and no credential is looked at.
	Keys Keys
	// Tenancy says what an identity must have: under it a yes for nobody is 403.
	// Default "": as cube.TenancyOff.
	Tenancy cube.Tenancy
	// FingerprintKey makes the fingerprints of credentials. Default: a random
	// one, with which they are others after a restart.
	FingerprintKey []byte
	// Observe is called for each request that was decided, before it goes on.
	// Default: nothing.
	Observe func(decision.Outcome)
	// Log gets one line for each question without an answer. Default
	// slog.Default().
	Log *slog.Logger
}

// Rules are the part of a Config that Reload changes while requests go on.
type Rules struct {
	// Callback is the operator's service. Without a URL in it nobody is asked.
	Callback callback.Config
	// Shadow is asked the same and decides nothing. Without a URL there is none.
	Shadow callback.Config
	// Cache remembers the callback's answers. With a TTL of 0 there is none.
	Cache cache.Config
	// Exempt is what needs no credential. Default ExemptHealth.
	Exempt Exempt
	// PassRefusals tells the client of the callback's 403 and 429, which are 401
	// else.
	PassRefusals bool
	// ErrorStatus is for a request on which nobody gave an answer: 500, the
	// default, or 503.
	ErrorStatus int
	// RequestsPerMinute bounds those of one identity, RefusalsPerMinute the
	// refused credentials from one address. 0 is no limit.
	RequestsPerMinute, RefusalsPerMinute int
}

// Door decides on requests. It may be used concurrently.
type Door struct {
	keys         Keys
	tenancy      cube.Tenancy
	fingerprints *fingerprints
	observe      func(decision.Outcome)
	log          *slog.Logger

	reloading sync.Mutex // held by the one who writes judge
	judge     atomic.Pointer[judge]
}

// New checks the settings and makes a door. Its errors name the flag and say
// what to write instead; they show nothing of the URL, which may hold a secret.
func New(c Config) (*Door, error) {
	d := &Door{
		keys:         c.Keys,
		tenancy:      cmp.Or(c.Tenancy, cube.TenancyOff),
		fingerprints: newFingerprints(c.FingerprintKey),
		observe:      c.Observe,
		log:          cmp.Or(c.Log, slog.Default()),
	}
	if d.observe == nil {
		d.observe = func(decision.Outcome) {}
	}
	if err := d.Reload(c.Rules); err != nil {
		return nil, err
	}
	return d, nil
}

// Reload changes the rules for all requests from now on, or returns an error and
// changes nothing. What was remembered is forgotten.
func (d *Door) Reload(r Rules) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	last := d.judge.Load()
	next, err := newJudge(r, d, last)
	if err != nil {
		return err
	}
	d.judge.Store(next)
	if last != nil {
		last.retire(next)
	}
	return nil
}

// Purge forgets every answer, those on their way included.
func (d *Door) Purge() { d.judge.Load().purge() }

// Stats tells what whoever decides has done since the last Reload.
func (d *Door) Stats() Stats { return d.judge.Load().stats() }

// Close closes idle connections to the operator's service, and waits for what
// goes on beside requests.
func (d *Door) Close() { d.judge.Load().retire(nil) }

// Wrap puts the door before the API. The order of its steps is the contract.
func (d *Door) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowOrigins(w.Header())
		if refuseMethod(w, r) {
			d.observe(outcomeOf(r, time.Now()).Refused(http.StatusMethodNotAllowed, decision.ReasonMethod))
			return
		}
		dropTrustHeaders(r.Header)
		if isPreflight(r) {
			answerPreflight(w, r)
			return
		}
		outcome, refusal := d.judge.Load().decide(r)
		d.observe(outcome)
		if refusal != nil {
			answerBeforeBody(w, r)
			refusal.write(w)
			return
		}
		next.ServeHTTP(w, r.WithContext(cube.WithIdentity(r.Context(), outcome.Identity)))
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

// isHealth tells whether a request is exactly GET or HEAD /health. One with a
// query is another request, and asks: what is free is one string.
func isHealth(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.RequestURI == "/health"
}

// isNobody tells whether the tenancy has no place for an identity.
func (d *Door) isNobody(id cube.Identity) bool {
	return d.tenancy != cube.TenancyOff && d.tenancy.Tenant(id.Owner()) == "" && !id.Operator()
}

// noAnswer logs that nobody answered a question.
func (d *Door) noAnswer(r *http.Request, err error) {
	message := "the auth callback gave no answer"
	if d.judge.Load().callback == nil {
		message = "the keys of this server cannot be read"
	}
	d.log.Error(message, "request", requestid.From(r.Context()), "error", err)
}

func (e Exempt) check() error {
	if e != ExemptHealth && e != ExemptNone {
		return fmt.Errorf("--auth-exempt: write %q or %q", ExemptHealth, ExemptNone)
	}
	return nil
}

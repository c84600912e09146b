package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"cube"
	"cube/auth/cache"
	"cube/auth/callback"
	"cube/auth/decision"
	"cube/auth/throttle"
	"cube/internal/requestid"
)

// judge decides by one set of rules.
type judge struct {
	rules Rules
	door  *Door

	// decider is the chain that is asked: the cache, if there is one, then the
	// callback, with its shadow beside it. nil: the keys, or open.
	decider  decision.Decider
	callback *callback.Client
	shadow   *shadow
	cache    *cache.Cache

	requests, refusals *throttle.Throttle
}

// Stats are of those who decide; nil for those that there are not.
type Stats struct {
	Callback *callback.Stats
	Cache    *cache.Stats
	Shadow   *ShadowStats
}

// newJudge checks the rules. It takes over from the last judge, if there is one,
// what clients have used up.
func newJudge(r Rules, d *Door, last *judge) (*judge, error) {
	r.Exempt = cmp.Or(r.Exempt, ExemptHealth)
	if err := r.Exempt.check(); err != nil {
		return nil, err
	}
	r.ErrorStatus = cmp.Or(r.ErrorStatus, http.StatusInternalServerError)
	if r.ErrorStatus != http.StatusInternalServerError && r.ErrorStatus != http.StatusServiceUnavailable {
		return nil, errors.New("--auth-callback-error-status: write 500 or 503")
	}
	j := &judge{rules: r, door: d}
	if err := j.connect(); err != nil {
		j.retire(nil)
		return nil, err
	}
	j.requests = takeOver(last, func(j *judge) *throttle.Throttle { return j.requests }, r.RequestsPerMinute, func(r Rules) int { return r.RequestsPerMinute })
	j.refusals = takeOver(last, func(j *judge) *throttle.Throttle { return j.refusals }, r.RefusalsPerMinute, func(r Rules) int { return r.RefusalsPerMinute })
	return j, nil
}

// takeOver returns the last judge's throttle if its limit is the same.
func takeOver(last *judge, throttleOf func(*judge) *throttle.Throttle, limit int, limitOf func(Rules) int) *throttle.Throttle {
	if last != nil && limitOf(last.rules) == limit {
		return throttleOf(last)
	}
	return throttle.New(limit)
}

// connect makes the chain of those who decide.
func (j *judge) connect() (err error) {
	if len(j.rules.Callback.URLs) == 0 {
		if len(j.rules.Shadow.URLs) > 0 {
			return errors.New("--auth-callback-shadow-url: there is no --auth-callback-url beside which it could be asked")
		}
		return nil
	}
	j.rules.Callback.Log = cmp.Or(j.rules.Callback.Log, j.door.log)
	if j.callback, err = callback.New(j.rules.Callback); err != nil {
		return err
	}
	j.decider = j.callback
	if len(j.rules.Shadow.URLs) > 0 {
		j.rules.Shadow.Log = cmp.Or(j.rules.Shadow.Log, j.door.log)
		second, err := callback.New(j.rules.Shadow)
		if err != nil {
			return err
		}
		j.shadow = newShadow(j.callback, second, second.Close, j.door)
		j.decider = j.shadow
	}
	if j.rules.Cache.TTL > 0 {
		j.rules.Cache.Log = cmp.Or(j.rules.Cache.Log, j.door.log)
		j.cache = cache.New(j.decider, j.rules.Cache)
		j.decider = j.cache
	}
	return nil
}

// retire ends what the next judge has not taken over. Questions in flight go on.
func (j *judge) retire(next *judge) {
	if j.shadow != nil {
		j.shadow.close()
	}
	if j.callback != nil {
		j.callback.Close()
	}
	if j.cache != nil {
		j.cache.Close()
	}
	if next == nil || next.requests != j.requests {
		j.requests.Close()
	}
	if next == nil || next.refusals != j.refusals {
		j.refusals.Close()
	}
}

func (j *judge) purge() {
	if j.cache != nil {
		j.cache.Purge()
	}
}

func (j *judge) stats() (s Stats) {
	if j.callback != nil {
		s.Callback = new(j.callback.Stats())
	}
	if j.cache != nil {
		s.Cache = new(j.cache.Stats())
	}
	if j.shadow != nil {
		s.Shadow = new(j.shadow.stats())
	}
	return s
}

// decide returns a nil refusal for a request that may go on.
func (j *judge) decide(r *http.Request) (decision.Outcome, *refusal) {
	o := outcomeOf(r, time.Now())
	exempt := j.rules.Exempt == ExemptHealth && isHealth(r)
	if exempt {
		return j.unasked(r, o, decision.ReasonExempt)
	}
	decider, err := j.whoDecides(r.Context())
	if err != nil {
		return j.unavailable(r, o, err)
	}
	if decider == nil {
		return j.unasked(r, o, decision.ReasonOpen)
	}
	if wait := j.refusals.Wait(network(o.Remote)); wait > 0 {
		return o.Refused(http.StatusTooManyRequests, decision.ReasonRefusalLimit), tooManyRefusals(wait)
	}
	cred, err := credentialOf(r.Header)
	switch {
	case errors.Is(err, errNoCredential):
		return o.Refused(http.StatusUnauthorized, decision.ReasonNoCredential), refuseNoCredential
	case err != nil:
		return o.Refused(http.StatusUnauthorized, decision.ReasonMalformed), refuseMalformed
	}
	o.Fingerprint = j.door.fingerprints.of(cred.Secret)
	if err := checkPath(r); err != nil {
		return o.Refused(http.StatusBadRequest, decision.ReasonPath), &refusal{err: err}
	}
	answer, err := decider.Decide(r.Context(), decision.Question{
		Credential:  cred,
		Path:        o.Path,
		Method:      o.Method,
		RequestID:   o.RequestID,
		Fingerprint: o.Fingerprint,
	})
	o.Latency, o.Source = time.Since(o.Time), answer.Source
	if err != nil {
		return j.unavailable(r, o, err)
	}
	if !answer.Allowed {
		j.refusals.Take(network(o.Remote))
		refusal := refused(answer, j.rules.PassRefusals)
		return o.Refused(refusal.status(), decision.ReasonRefused), refusal
	}
	o.Identity = answer.Identity
	o.Identity.Fingerprint = o.Fingerprint
	if j.door.isNobody(o.Identity) {
		return o.Refused(http.StatusForbidden, decision.ReasonNobody), refuseNobody(j.door.tenancy)
	}
	if wait := j.requests.Take(o.Identity.Account()); wait > 0 {
		return o.Refused(http.StatusTooManyRequests, decision.ReasonRateLimited), tooManyRequests(wait)
	}
	return o.Granted(decision.ReasonAllowed), nil
}

// whoDecides returns nil if everybody may do everything.
func (j *judge) whoDecides(ctx context.Context) (decision.Decider, error) {
	if j.decider != nil || j.door.keys == nil {
		return j.decider, nil
	}
	inUse, err := j.door.keys.InUse(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	if !inUse {
		return nil, nil
	}
	return j.door.keys, nil
}

// unasked lets a request go on that nobody is asked about, if it has a path.
func (j *judge) unasked(r *http.Request, o decision.Outcome, why decision.Reason) (decision.Outcome, *refusal) {
	if err := checkPath(r); err != nil {
		return o.Refused(http.StatusBadRequest, decision.ReasonPath), &refusal{err: err}
	}
	return o.Granted(why), nil
}

// unavailable refuses a request on which nobody gave an answer.
func (j *judge) unavailable(r *http.Request, o decision.Outcome, err error) (decision.Outcome, *refusal) {
	why := decision.ReasonUnavailable
	if r.Context().Err() != nil {
		why = decision.ReasonGone // and nobody is at fault
	} else {
		j.door.noAnswer(r, err)
	}
	kind := cube.Internal
	if j.rules.ErrorStatus == http.StatusServiceUnavailable {
		kind = cube.Unavailable
	}
	return o.Refused(j.rules.ErrorStatus, why), &refusal{err: cube.WrapError(kind, err, messageUnavailable)}
}

// outcomeOf begins the record of a request.
func outcomeOf(r *http.Request, now time.Time) decision.Outcome {
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		remote = r.RemoteAddr // a server in a test
	}
	return decision.Outcome{
		Time:      now,
		RequestID: requestid.From(r.Context()),
		Method:    r.Method,
		Path:      wirePath(r),
		Remote:    remote,
	}
}

// network is the address under which refusals are counted: of IPv6 the /64, for
// who has one address there has 2^64.
func network(remote string) string {
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		return remote
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	prefix, _ := addr.Prefix(64) // fails for more than 128 alone
	return prefix.String()
}

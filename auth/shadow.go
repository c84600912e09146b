package auth

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"cube/auth/decision"
)

// maxShadowQuestions are in flight at once; more are not asked, so that a slow
// shadow costs nothing but itself.
const maxShadowQuestions = 256

// shadow asks a second service the same as the first, and looks only at whether
// they agree: how somebody learns what a new service would do before it does.
type shadow struct {
	first, second decision.Decider
	stop          func() // closes the second's connections
	door          *Door
	asking        sync.WaitGroup
	room          chan struct{}

	counts [len(shadowResults)]atomic.Uint64
}

// ShadowResult is what a shadow's answer was, beside the first's.
type ShadowResult string

// The results.
const (
	ShadowSame        ShadowResult = "same"
	ShadowIdentity    ShadowResult = "identity"     // both allow, as somebody else
	ShadowAllowsMore  ShadowResult = "allows_more"  // it would allow what is refused
	ShadowRefusesMore ShadowResult = "refuses_more" // it would refuse what is allowed
	ShadowNoAnswer    ShadowResult = "no_answer"
	ShadowNotAsked    ShadowResult = "not_asked" // too many questions in flight
)

var shadowResults = [...]ShadowResult{ShadowSame, ShadowIdentity, ShadowAllowsMore, ShadowRefusesMore, ShadowNoAnswer, ShadowNotAsked}

// ShadowStats count the results since the start.
type ShadowStats map[ShadowResult]uint64

func newShadow(first, second decision.Decider, stop func(), door *Door) *shadow {
	return &shadow{first: first, second: second, stop: stop, door: door, room: make(chan struct{}, maxShadowQuestions)}
}

// Decide implements decision.Decider: with the first's answer alone, as soon as
// it is there.
func (s *shadow) Decide(ctx context.Context, q decision.Question) (decision.Answer, error) {
	select {
	case s.room <- struct{}{}:
	default:
		s.count(ShadowNotAsked)
		return s.first.Decide(ctx, q)
	}
	decided := make(chan decision.Answer, 1)
	s.asking.Go(func() {
		defer func() { <-s.room }()
		asked := time.Now()
		answer, err := s.second.Decide(context.WithoutCancel(ctx), q)
		took := time.Since(asked)
		if first, ok := <-decided; ok {
			s.compare(q, first, answer, err, took)
		}
	})
	answer, err := s.first.Decide(ctx, q)
	if err == nil {
		decided <- answer
	}
	close(decided) // without an answer there is nothing to compare with
	return answer, err
}

// compare counts, and records what differs.
func (s *shadow) compare(q decision.Question, first, second decision.Answer, err error, took time.Duration) {
	result := ShadowSame
	switch {
	case err != nil:
		result = ShadowNoAnswer
	case second.Allowed && !first.Allowed:
		result = ShadowAllowsMore
	case !second.Allowed && first.Allowed:
		result = ShadowRefusesMore
	case !reflect.DeepEqual(first.Identity, second.Identity):
		result = ShadowIdentity
	}
	s.count(result)
	if result == ShadowSame {
		return
	}
	s.door.log.Warn("the shadow callback disagrees", "request", q.RequestID, "how", string(result), "method", q.Method, "path", q.Path, "fingerprint", q.Fingerprint)
	o := decision.Outcome{
		Time:        time.Now(),
		RequestID:   q.RequestID,
		Method:      q.Method,
		Path:        q.Path,
		Fingerprint: q.Fingerprint,
		Identity:    second.Identity,
		Allowed:     second.Allowed,
		Status:      second.Status,
		Reason:      decision.ReasonRefused,
		Source:      decision.FromShadow,
		Latency:     took,
	}
	switch {
	case err != nil:
		o.Reason = decision.ReasonUnavailable
	case second.Allowed:
		o.Reason = decision.ReasonAllowed
	}
	s.door.observe(o)
}

func (s *shadow) count(result ShadowResult) {
	for i, r := range shadowResults {
		if r == result {
			s.counts[i].Add(1)
		}
	}
}

func (s *shadow) stats() ShadowStats {
	counts := ShadowStats{}
	for i, r := range shadowResults {
		counts[r] = s.counts[i].Load()
	}
	return counts
}

// close waits for the questions in flight, which their own timeout ends.
func (s *shadow) close() {
	s.asking.Wait()
	s.stop()
}

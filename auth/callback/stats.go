package callback

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// What a question can end with, as Config.Observe is told.
const (
	OutcomeAllowed  = "allowed"
	OutcomeRefused  = "refused"
	OutcomeNoAnswer = "no_answer" // nobody said yes or no, or it cannot be read
	OutcomeGone     = "gone"      // whoever asked went away
)

// Outcomes are all of them.
var Outcomes = []string{OutcomeAllowed, OutcomeRefused, OutcomeNoAnswer, OutcomeGone}

// counters count since the start.
type counters struct {
	questions, noAnswers, retried, failovers atomic.Uint64
}

// Stats are what happened since the start, and what is the case now.
type Stats struct {
	Questions   uint64 // that ended
	NoAnswers   uint64 // of them; without those whose asker went away
	Retries     uint64 // tries after a connection broke, without those that net/http makes by itself
	Failovers   uint64 // questions that went on to a next URL
	Waiting     int    // for a place among those in flight, or for a URL to be back
	InFlight    int    // to the service
	BreakerOpen bool   // a URL, of the first or the fallbacks, is asked one question at a time
}

// Stats reads the counters. It is cheap, and they need not be of one moment.
func (c *Client) Stats() Stats {
	return Stats{
		Questions:   c.questions.Load(),
		NoAnswers:   c.noAnswers.Load(),
		Retries:     c.retried.Load(),
		Failovers:   c.failovers.Load(),
		Waiting:     int(c.waiting.Load()),
		InFlight:    int(c.inFlight.Load()),
		BreakerOpen: c.breaker.open(),
	}
}

// count counts a question that ended.
func (c *Client) count(took time.Duration, allowed bool, err error) {
	c.questions.Add(1)
	outcome := OutcomeRefused
	switch {
	case allowed:
		outcome = OutcomeAllowed
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		outcome = OutcomeGone
	case err != nil:
		outcome = OutcomeNoAnswer
		c.noAnswers.Add(1)
	}
	if c.observe != nil {
		c.observe(took, outcome)
	}
}

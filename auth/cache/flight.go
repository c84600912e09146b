package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"cube/auth/decision"
)

// errPanicked is what those get who wait for a decider that panics.
var errPanicked = errors.New("the decider panicked; the log has the place")

// fly gives the answer to a question that is not remembered. Those who ask the
// same at one moment share one flight to the decider. It belongs to none of
// them: whoever goes away leaves it to the others, and the decider's own timeout
// ends it.
func (c *Cache) fly(ctx context.Context, g *generation, k key, q decision.Question) (decision.Answer, error) {
	if err := ctx.Err(); err != nil {
		return decision.Answer{}, err
	}
	pilot := false // whether this caller's flight is the one; known when it has landed
	landed := g.flights.DoChan(string(k[:]), func() (any, error) {
		// The flight before this one may have landed since we looked.
		if e := c.remembered(k); e != nil {
			return e.answer, nil
		}
		pilot = true
		asked := time.Now()
		answer, err := c.ask(context.WithoutCancel(ctx), q)
		if err == nil {
			c.keep(g, k, &q, answer, asked)
		}
		return answer, err
	})
	select {
	case <-ctx.Done():
		return decision.Answer{}, ctx.Err()
	case flight := <-landed:
		answer := flight.Val.(decision.Answer)
		switch {
		case pilot:
			return answer, flight.Err
		case answer.Source == decision.FromCache:
			c.hits.Add(1)
			return answer, nil
		case forOneOnly(&answer):
			return c.ask(ctx, q)
		}
		c.coalesced.Add(1)
		answer.Source = decision.FromCoalesced
		return answer, flight.Err
	}
}

// ask asks the decider. That one panics is an error: its goroutine may be the
// flight's, where nobody else would stop it from ending the server.
func (c *Cache) ask(ctx context.Context, q decision.Question) (answer decision.Answer, err error) {
	c.misses.Add(1)
	defer func() {
		if p := recover(); p != nil {
			// Its type alone: the value may quote the question.
			c.log.Error("the decider panicked", "request", q.RequestID, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			answer, err = decision.Answer{}, errPanicked
		}
	}()
	return c.next.Decide(ctx, q)
}

package callback

import (
	"context"
	"errors"
	"time"

	"cube/auth/decision"
)

// ask asks one URL after the other until one answers. One that is down is left
// out, while a probe with this question or an earlier one tries it. If no other
// answers, the question waits for what the probes bring.
func (c *Client) ask(ctx context.Context, q *decision.Question) (reply, error) {
	var last error
	var down []wait
	for url := range c.urls {
		if url > 0 {
			c.failovers.Add(1)
		}
		r, err := c.askURL(ctx, url, q)
		for errors.Is(err, errDown) && over(ctx) == nil {
			if p, mine := c.probe(url, q); p != nil {
				down = append(down, wait{url, p, mine})
				break
			}
			r, err = c.askURL(ctx, url, q) // it was back before there was a probe
		}
		if err == nil {
			return r, nil
		}
		if over(ctx) != nil {
			if errors.Is(err, errDown) {
				err = over(ctx)
			}
			return reply{}, err
		}
		last = err
	}
	if len(down) == 0 {
		return reply{}, last
	}
	c.waiting.Add(1)
	url, r, err := c.breaker.await(ctx, down)
	c.waiting.Add(-1)
	switch {
	case err != nil:
		return reply{}, err
	case r != nil:
		return *r, nil
	}
	return c.askURL(ctx, url, q)
}

// askURL asks one URL, unless it is down, and tells the breaker.
func (c *Client) askURL(ctx context.Context, url int, q *decision.Question) (reply, error) {
	if _, up := c.breaker.enter(url); !up {
		return reply{}, errDown
	}
	ctx, cancel := c.share(ctx, url)
	defer cancel()
	if err := c.takePlace(ctx, url); err != nil {
		return reply{}, err
	}
	defer func() { <-c.places[url] }()
	epoch, up := c.breaker.enter(url) // again: it may have gone down meanwhile
	if !up {
		return reply{}, errDown
	}
	r, err := c.exchange(ctx, url, q)
	switch {
	case err == nil:
		c.breaker.answered(url)
	case blamed(ctx):
		c.breaker.silent(url, epoch)
	}
	return r, err
}

// share bounds what one URL gets of the time, so that one that hangs leaves some
// to those after it.
func (c *Client) share(ctx context.Context, url int) (context.Context, context.CancelFunc) {
	left := len(c.urls) - url
	deadline, ok := ctx.Deadline()
	if left == 1 || !ok {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, time.Until(deadline)/time.Duration(left), errSlow)
}

// takePlace waits for a place among the questions in flight to a URL.
func (c *Client) takePlace(ctx context.Context, url int) error {
	select {
	case c.places[url] <- struct{}{}:
		return nil
	default:
	}
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	select {
	case c.places[url] <- struct{}{}:
		return nil
	case <-ctx.Done():
	}
	if blamed(ctx) {
		return errNoPlace
	}
	return over(ctx)
}

// probe returns the probe of a URL that is down, and makes one with this
// question if there is none. It goes on without whoever asked, for others wait
// for what it brings. It is nil if the URL is back.
func (c *Client) probe(url int, q *decision.Question) (p *probe, mine bool) {
	p, mine = c.breaker.probe(url)
	if !mine {
		return p, false
	}
	question := *q
	go func() {
		ctx, cancel := context.WithTimeoutCause(c.life, c.timeout, errSlow)
		defer cancel()
		r, err := c.exchange(ctx, url, &question)
		if err != nil && !blamed(ctx) {
			err = errEnded
		}
		c.breaker.land(url, p, r, err)
	}()
	return p, true
}

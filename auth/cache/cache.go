// Package cache remembers decisions for a while, so that not every request asks
// the operator's service.
//
// It must never make a yes last longer than everybody agreed to: the settings,
// the service's answer, the credential itself, and a purge. It must never give
// one question's answer to another question, hold a credential, or grow with the
// number of keys that strangers make up.
package cache

import (
	"cmp"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"cube/auth/decision"
)

const (
	defaultRefusalTTL = 5 * time.Second
	defaultMaxEntries = 100_000
)

// Config is how long and how much is remembered.
type Config struct {
	// TTL is the longest that a yes is remembered. With 0 or less nothing is.
	TTL time.Duration
	// RefusalTTL is the longest that a no is remembered, and at most TTL.
	// Default 5 s. It is short, for it is how long somebody waits whose key was
	// just let in.
	RefusalTTL time.Duration
	// MaxEntries bounds the decisions that are remembered; a tenth of it is for
	// refusals. Default 100,000, also for less than 1.
	MaxEntries int
	// Log gets a line when the decider panics. Default slog.Default().
	Log *slog.Logger
}

// Cache is a decider that remembers what another one decided. It may be used
// concurrently.
//
// The slices in its answers are shared by everybody who asks the same: never
// write to them.
type Cache struct {
	next       decision.Decider
	ttl        time.Duration
	refusalTTL time.Duration
	log        *slog.Logger

	generation atomic.Pointer[generation]
	// Refusals have a place of their own: whoever makes up keys displaces other
	// refusals, never a yes.
	allowed, refused *otter.Cache[key, *entry]

	hits, misses, coalesced, stored, purges atomic.Uint64
}

// entry is an answer as it is given again.
type entry struct {
	answer decision.Answer
	until  time.Time
}

// New makes a cache before next. Close ends it.
func New(next decision.Decider, config Config) *Cache {
	size := config.MaxEntries
	if size < 1 {
		size = defaultMaxEntries // not otter's reading of it, which is no bound
	}
	forRefusals := max(size/10, 1)
	c := &Cache{
		next:       next,
		ttl:        config.TTL,
		refusalTTL: min(cmp.Or(config.RefusalTTL, defaultRefusalTTL), config.TTL),
		log:        cmp.Or(config.Log, slog.Default()),
		allowed:    newEntries(max(size-forRefusals, 1)),
		refused:    newEntries(forRefusals),
	}
	c.generation.Store(newGeneration())
	return c
}

func newEntries(size int) *otter.Cache[key, *entry] {
	return otter.Must(&otter.Options[key, *entry]{
		MaximumSize: size,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[key, *entry]) time.Duration {
			// At least 1 ns, for 0 and less would be for ever: what is out of
			// date by now, because the machine was slow, goes at once.
			return max(time.Until(e.Value.until), 1)
		}),
	})
}

// Close ends the goroutines that forget what is out of date. It waits for no
// question.
func (c *Cache) Close() {
	c.allowed.StopAllGoroutines()
	c.refused.StopAllGoroutines()
}

// Decide answers from memory, or with the answer to the same question that
// somebody else is asking at this moment, or else asks. What the answer came
// from is its Source.
//
// The request id and the fingerprint are no part of a question: the one who asks
// may do so under the request id of another.
func (c *Cache) Decide(ctx context.Context, q decision.Question) (decision.Answer, error) {
	g := c.generation.Load()
	k := g.key(&q)
	if e := c.remembered(k); e != nil {
		c.hits.Add(1)
		return e.answer, nil
	}
	return c.fly(ctx, g, k, q)
}

// remembered returns nil if there is no such entry.
func (c *Cache) remembered(k key) *entry {
	if e, ok := c.allowed.GetIfPresent(k); ok {
		return e
	}
	e, _ := c.refused.GetIfPresent(k)
	return e
}

// keep remembers an answer, if it may be given again. asked is when the question
// was: the decision may be as old as that.
func (c *Cache) keep(g *generation, k key, q *decision.Question, a decision.Answer, asked time.Time) {
	until := asked.Add(c.lifetime(q, &a, asked))
	if c.generation.Load() != g || !until.After(time.Now()) {
		return
	}
	entries := c.refused
	if a.Allowed {
		entries = c.allowed
	}
	a.Source = decision.FromCache
	entries.Set(k, &entry{a, until})
	c.stored.Add(1)
}

// Purge forgets everything. Whoever asks after it has returned gets an answer to
// a question that was asked since, also when the same was in flight.
func (c *Cache) Purge() {
	c.generation.Store(newGeneration())
	c.allowed.InvalidateAll()
	c.refused.InvalidateAll()
	c.purges.Add(1)
}

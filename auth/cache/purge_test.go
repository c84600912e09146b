package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cube/auth/decision"
)

// revocable is a service whose keys can all be revoked. Its yes is as it was
// when it was asked.
func revocable(revoked *atomic.Bool, pause func()) *service {
	return &service{decide: func(context.Context, decision.Question) (decision.Answer, error) {
		was := revoked.Load()
		pause()
		if was {
			return no(401), nil
		}
		return yes(), nil
	}}
}

func TestD3AfterAPurgeARevokedKeyIsDeniedAtOnce(t *testing.T) {
	var revoked atomic.Bool
	c := newCache(t, revocable(&revoked, func() {}), Config{TTL: time.Hour})
	decide(t, c, question("a"))
	revoked.Store(true)
	if !decide(t, c, question("a")).Allowed {
		t.Fatal("the yes was not remembered: there is nothing to purge")
	}
	c.Purge()
	if decide(t, c, question("a")).Allowed {
		t.Error("the key is still allowed")
	}
}

func TestD3AQuestionInFlightAtAPurgeIsNotForThoseWhoAskAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var revoked atomic.Bool
		first := make(chan struct{})
		s := revocable(&revoked, func() {
			if !revoked.Load() {
				<-first
			}
		})
		c := newCache(t, s, Config{TTL: time.Hour, RefusalTTL: time.Hour})
		before := askers(t, c, 5, question("a"))
		revoked.Store(true)
		c.Purge()
		if decide(t, c, question("a")).Allowed { // while the other question is in flight
			t.Error("who asked after the purge got the answer from before it")
		}
		close(first)
		for _, o := range before() {
			if o.err != nil || !o.answer.Allowed {
				t.Errorf("who asked before the purge got %+v, %v", o.answer, o.err)
			}
		}
		if a := decide(t, c, question("a")); a.Allowed || a.Source != decision.FromCache {
			t.Errorf("the answer in flight took the place of the newer one: %+v", a)
		}
		s.wantAsked(t, 2)
		if stats := c.Stats(); stats.Stored != 1 || stats.Entries != 1 {
			t.Errorf("the answer in flight was stored: %+v", stats)
		}
	})
}

func TestD3NoMomentOfAPurgeLetsAnOldYesThrough(t *testing.T) {
	for range 300 {
		var revoked, purged atomic.Bool
		c := New(revocable(&revoked, func() {}), Config{TTL: time.Hour})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					after := purged.Load()
					if a, err := c.Decide(t.Context(), question("a")); err != nil || (after && a.Allowed) {
						t.Errorf("asked after the purge: %v; got %+v, %v", after, a, err)
					}
				}
			})
		}
		revoked.Store(true)
		c.Purge()
		purged.Store(true)
		wg.Wait()
		if decide(t, c, question("a")).Allowed {
			t.Error("an old yes was stored")
		}
		c.Close()
	}
}

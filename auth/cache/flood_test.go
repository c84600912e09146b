package cache

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cube/auth/decision"
)

// keys is a service that knows good keys by their beginning.
func keys() *service {
	return &service{decide: func(_ context.Context, q decision.Question) (decision.Answer, error) {
		if strings.HasPrefix(q.Credential.Secret, "good") {
			return yes(), nil
		}
		return no(401), nil
	}}
}

// wantBounded fails the test if more is remembered than may be.
func wantBounded(t *testing.T, c *Cache, most int) {
	t.Helper()
	c.allowed.CleanUp()
	c.refused.CleanUp()
	if n := c.Stats().Entries; n > most {
		t.Errorf("%d decisions are remembered, want at most %d", n, most)
	}
}

func TestD4BadKeysDisplaceNoGoodOne(t *testing.T) {
	bad := 1_000_000
	if raceDetector || testing.Short() {
		bad = 50_000
	}
	const good, maxEntries = 1_000, 10_000
	s := keys()
	c := newCache(t, s, Config{TTL: time.Hour, RefusalTTL: time.Hour, MaxEntries: maxEntries})
	for i := range good {
		decide(t, c, question(fmt.Sprint("good", i)))
	}
	before := heap()
	const attackers = 4
	var wg sync.WaitGroup
	for attacker := range attackers {
		wg.Go(func() {
			for i := attacker; i < bad; i += attackers {
				if a, err := c.Decide(t.Context(), question(fmt.Sprint("bad", i))); err != nil || a.Allowed {
					t.Errorf("a bad key got %+v, %v", a, err)
				}
			}
		})
	}
	wg.Wait()
	wantBounded(t, c, maxEntries)
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("%d bad keys take %d KiB", bad, grown>>10)
	}
	asked := s.asked.Load()
	for i := range good { // none was used meanwhile
		decide(t, c, question(fmt.Sprint("good", i)))
	}
	if lost := s.asked.Load() - asked; lost != 0 {
		t.Errorf("%d of %d good keys are forgotten", lost, good)
	}
}

// heap is how much memory is in use, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestD4AGoodKeyOnMadeUpPathsDisplacesNoneInUse(t *testing.T) {
	made := 300_000
	if raceDetector || testing.Short() {
		made = 30_000
	}
	const inUse, maxEntries = 100, 1_000
	s := keys()
	c := newCache(t, s, Config{TTL: time.Hour, MaxEntries: maxEntries})
	use := func() (missed int64) {
		asked := s.asked.Load()
		for i := range inUse {
			decide(t, c, question(fmt.Sprint("good", i)))
		}
		return s.asked.Load() - asked
	}
	for range 5 {
		use()
	}
	var missed, used int64
	for i := range made {
		q := question("good-but-mad")
		q.Path = fmt.Sprint("/sandboxes/", i)
		decide(t, c, q)
		if i%1_000 == 0 {
			missed += use()
			used += inUse
			c.allowed.CleanUp() // counts these uses
		}
	}
	wantBounded(t, c, maxEntries)
	// A cache that forgets the least recently used has forgotten all of them. How
	// many this one does depends on how far its own goroutine is behind.
	if missed > used/3 {
		t.Errorf("%d of %d questions in use were asked again, want at most a third", missed, used)
	}
}

func TestTheSmallestCacheIsBounded(t *testing.T) {
	for _, size := range []int{1, 2, 10, 100} {
		c := newCache(t, keys(), Config{TTL: time.Hour, MaxEntries: size})
		for i := range 1_000 {
			decide(t, c, question(fmt.Sprint("good", i)))
			decide(t, c, question(fmt.Sprint("bad", i)))
		}
		wantBounded(t, c, max(size, 2))
	}
	c := newCache(t, keys(), Config{TTL: time.Hour, MaxEntries: -1})
	if most := c.allowed.GetMaximum() + c.refused.GetMaximum(); most != defaultMaxEntries {
		t.Errorf("less than 1 entry is %d, want the default", most)
	}
}

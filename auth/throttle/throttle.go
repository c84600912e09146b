// Package throttle counts what happens too often: requests of one identity, or
// refused credentials from one address. It must never grow with the number of
// names that strangers make up.
package throttle

import (
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// maxNames are remembered at once. When there are more, those that are seen
// least are forgotten, which gives them a full measure again.
const maxNames = 1 << 16

// Throttle lets each name do something so many times a minute, all at once if it
// likes. A nil Throttle sets no limit. It may be used concurrently.
type Throttle struct {
	perMinute int
	names     *otter.Cache[string, *rate.Limiter]
}

// New makes a throttle; nil for 0 or less, which is no limit. Close ends it.
func New(perMinute int) *Throttle {
	if perMinute <= 0 {
		return nil
	}
	return &Throttle{
		perMinute: perMinute,
		names: otter.Must(&otter.Options[string, *rate.Limiter]{
			MaximumSize: maxNames,
			// A name that did nothing for a minute has its full measure anyway.
			ExpiryCalculator: otter.ExpiryAccessing[string, *rate.Limiter](2 * time.Minute),
		}),
	}
}

// Close ends the goroutine that forgets names.
func (t *Throttle) Close() {
	if t != nil {
		t.names.StopAllGoroutines()
	}
}

// Take counts one and returns 0, or counts nothing and returns how long the name
// has to wait.
func (t *Throttle) Take(name string) (wait time.Duration) {
	if t == nil {
		return 0
	}
	reservation := t.limiter(name).Reserve()
	if wait = reservation.Delay(); wait > 0 {
		reservation.Cancel()
	}
	return wait
}

// Wait returns how long the name would have to wait, and counts nothing.
func (t *Throttle) Wait(name string) time.Duration {
	if t == nil {
		return 0
	}
	limiter, known := t.names.GetIfPresent(name)
	if !known {
		return 0
	}
	missing := 1 - limiter.Tokens()
	return time.Duration(max(0, missing) * float64(time.Minute) / float64(t.perMinute))
}

func (t *Throttle) limiter(name string) *rate.Limiter {
	limiter, _ := t.names.ComputeIfAbsent(name, func() (*rate.Limiter, bool) {
		return rate.NewLimiter(rate.Limit(float64(t.perMinute)/60), t.perMinute), false
	})
	return limiter
}

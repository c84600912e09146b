package quota

import (
	"math"
	"time"

	"golang.org/x/time/rate"

	"cube"
)

const makeRoom = "kill one that you do not need, or try again when one has reached its deadline"

// fits refuses what is too much beside what the account has.
func (a *account) fits(need cube.Resources, limits cube.Limits) error {
	if limits.Sandboxes > 0 && a.sandboxes >= limits.Sandboxes {
		return cube.Errorf(cube.Exhausted, "You have %d of your %d sandboxes: %s", a.sandboxes, limits.Sandboxes, makeRoom)
	}
	for _, r := range []struct {
		what              string
		used, need, limit int
	}{
		{"processors", a.cpus, need.CPUs, limits.CPUs},
		{"MiB of memory", a.memoryMB, need.MemoryMB, limits.MemoryMB},
	} {
		switch {
		case r.limit <= 0:
		case r.need > r.limit:
			return cube.Errorf(cube.Exhausted, "One sandbox of this template needs %d %s, and you may have %d: use a smaller template, or ask the operator for more", r.need, r.what, r.limit)
		case r.need > r.limit-r.used:
			return cube.Errorf(cube.Exhausted, "Your sandboxes have %d of your %d %s, and this one needs %d: %s", r.used, r.limit, r.what, r.need, makeRoom)
		}
	}
	return nil
}

// mayCreate counts one create, or refuses and counts nothing. An account may
// make all of its minute at once.
func (a *account) mayCreate(now time.Time, perMinute int) error {
	if perMinute <= 0 {
		return nil
	}
	every := rate.Limit(float64(perMinute) / refill.Seconds())
	if a.creates == nil {
		a.creates = rate.NewLimiter(every, perMinute)
	} else if a.creates.Burst() != perMinute {
		a.creates.SetLimitAt(now, every)
		a.creates.SetBurstAt(now, perMinute)
	}
	r := a.creates.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		err := cube.Errorf(cube.Exhausted, "You have made your %d sandboxes of this minute: try again in %.0f s", perMinute, math.Ceil(wait.Seconds()))
		err.RetryAfter = wait
		return err
	}
	a.created = now
	return nil
}

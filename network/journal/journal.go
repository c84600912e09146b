// Package journal remembers where sandboxes wanted to go and whether they could,
// for as long as the server runs: the newest of each.
//
// It must never hold what a sandbox sent, but for names as rules compare them.
package journal

import (
	"slices"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"cube"
	"cube/network/gate"
)

const (
	// Each is how many events of one sandbox are kept.
	Each = 500
	// maxSandboxes are remembered, for keepFor after the last event.
	maxSandboxes = 10_000
	keepFor      = 24 * time.Hour
	// What of a sandbox's events is worth the audit log: so many a second, for one
	// that tries all addresses must not fill it.
	writeRate, writeBurst = 10, 200
)

// Journal keeps the events of many sandboxes.
type Journal struct {
	sandboxes *otter.Cache[cube.SandboxID, *events]
}

// events are a ring.
type events struct {
	limit *rate.Limiter

	mu   sync.Mutex // guards what follows
	ring []gate.Event
	next int
}

// New returns an empty one.
func New() *Journal {
	return &Journal{sandboxes: otter.Must(&otter.Options[cube.SandboxID, *events]{
		MaximumSize:      maxSandboxes,
		ExpiryCalculator: otter.ExpiryAccessing[cube.SandboxID, *events](keepFor),
	})}
}

// Close ends its own work.
func (j *Journal) Close() { j.sandboxes.StopAllGoroutines() }

// Add keeps an event, and tells whether it is one of those that the audit log has
// room for.
func (j *Journal) Add(e gate.Event) (write bool) {
	kept, _ := j.sandboxes.ComputeIfAbsent(e.Sandbox, func() (*events, bool) {
		return &events{limit: rate.NewLimiter(writeRate, writeBurst)}, false
	})
	kept.mu.Lock()
	defer kept.mu.Unlock()
	if len(kept.ring) < Each {
		kept.ring = append(kept.ring, e)
	} else {
		kept.ring[kept.next] = e
		kept.next = (kept.next + 1) % Each
	}
	return kept.limit.Allow()
}

// Newest returns up to n events of a sandbox, the newest first; of the denied
// alone if they are asked for.
func (j *Journal) Newest(id cube.SandboxID, n int, denied bool) []gate.Event {
	kept, ok := j.sandboxes.GetIfPresent(id)
	if !ok {
		return nil
	}
	kept.mu.Lock()
	ordered := slices.Concat(kept.ring[kept.next:], kept.ring[:kept.next])
	kept.mu.Unlock()
	slices.Reverse(ordered)
	if denied {
		ordered = slices.DeleteFunc(ordered, func(e gate.Event) bool { return e.Allowed })
	}
	return ordered[:min(n, len(ordered))]
}

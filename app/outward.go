package app

import (
	"sync/atomic"

	"cube/lifecycle"
	"cube/network/gate"
	"cube/network/journal"
)

// outward is told where sandboxes go. The gate is there before those who want to
// know: what it says until then, the journal alone keeps.
type outward struct {
	journal *journal.Journal
	then    atomic.Pointer[func(gate.Event, bool)]
}

func newOutward() *outward { return &outward{journal: journal.New()} }

func (o *outward) event(e gate.Event) {
	write := o.journal.Add(e)
	if then := o.then.Load(); then != nil {
		(*then)(e, write)
	}
}

// begin lets others know, too.
func (o *outward) begin(seen observers, sandboxes *lifecycle.Sandboxes) {
	then := func(e gate.Event, write bool) {
		if seen.metrics != nil {
			seen.metrics.Network(string(e.Kind), e.Allowed, e.Ended, e.Up, e.Down)
		}
		if seen.trail != nil && write {
			seen.trail.Network(e, sandboxes.Owner(e.Sandbox))
		}
	}
	o.then.Store(&then)
}

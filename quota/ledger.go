// Package quota is how much one account may have: its sandboxes with their
// processors and memory, how fast it makes them, and its turns among those who
// wait for a sandbox to start.
//
// It must never know a request, a row or an engine, never stop what runs
// already, and never grow with the names of accounts that have nothing.
package quota

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"cube"
)

// Ledger counts what each account has, and admits no sandbox that is too much.
// It may be used concurrently, and never waits. An account is the name that
// cube.Identity's Account gives; "" is everybody whom nobody knows, together.
type Ledger struct {
	mu       sync.Mutex // guards what follows: looking and taking is one step
	limits   cube.Limits
	accounts map[string]*account
	places   map[cube.SandboxID]place
	kept     map[cube.SandboxID]string // the accounts of those that are paused
	held     map[cube.SnapshotID]held  // what snapshots take
	swept    time.Time                 // when accounts were last looked through
}

// account is what one account has.
type account struct {
	sandboxes, cpus, memoryMB int
	paused                    int
	snapshots                 int
	held                      int64 // bytes of its snapshots

	creates *rate.Limiter // nil before the first create under a limit
	created time.Time     // when the limiter admitted one last
}

// place is what one sandbox takes.
type place struct {
	account string
	need    cube.Resources
}

// refill is how long an empty measure of creations takes to be full again.
const refill = time.Minute

// NewLedger makes an empty ledger. limits hold for each account whose identity
// has none of its own.
func NewLedger(limits cube.Limits) *Ledger {
	return &Ledger{limits: limits, accounts: map[string]*account{}, places: map[cube.SandboxID]place{}, kept: map[cube.SandboxID]string{}, held: map[cube.SnapshotID]held{}}
}

// SetLimits replaces the limits for what comes from now on. Who has more than
// the new ones allow keeps it.
func (l *Ledger) SetLimits(limits cube.Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits
}

// Reserve gives a sandbox its place in the account of id, or refuses and changes
// nothing. A sandbox that has a place keeps it and is not counted again. The
// limits are those of id; if identities of one account have different ones, each
// is held to its own with what all of them use.
//
// Kind: Exhausted, with RetryAfter where time alone helps. A create that was
// admitted counts as one of its minute, whatever becomes of it.
func (l *Ledger) Reserve(id cube.Identity, sandbox cube.SandboxID, need cube.Resources) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, has := l.places[sandbox]; has {
		return nil
	}
	now := time.Now()
	l.sweep(now)
	limits := before(id.Limits, l.limits)
	name := id.Account()
	a := l.accounts[name]
	if a == nil {
		a = &account{} // kept only once it is admitted
	}
	if err := a.fits(need, limits); err != nil {
		return err
	}
	// Last, for it is the one that takes: a sandbox that has no place must not
	// cost its account a create.
	if err := a.mayCreate(now, limits.CreatesPerMinute); err != nil {
		return err
	}
	l.add(name, a, sandbox, need)
	return nil
}

// Readmit gives a sandbox that was made before, and had its place then, a place in
// its account again, or refuses and changes nothing. own are the limits of who
// asks, if it is its account's. It is no create, and counts as none. Kind:
// Exhausted.
func (l *Ledger) Readmit(name string, own cube.Limits, sandbox cube.SandboxID, need cube.Resources) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, has := l.places[sandbox]; has {
		return nil
	}
	l.sweep(time.Now())
	a := l.accounts[name]
	if a == nil {
		a = &account{} // kept only once it is admitted
	}
	if err := a.fits(need, before(own, l.limits)); err != nil {
		return err
	}
	l.add(name, a, sandbox, need)
	return nil
}

// Adopt gives a sandbox that exists its place, however much its account has: a
// server that starts again counts what the last one admitted.
func (l *Ledger) Adopt(name string, sandbox cube.SandboxID, need cube.Resources) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, has := l.places[sandbox]; has {
		return
	}
	a := l.accounts[name]
	if a == nil {
		a = &account{}
	}
	l.add(name, a, sandbox, need)
}

// Release gives a sandbox's place back. It does nothing for one that has none.
func (l *Ledger) Release(sandbox cube.SandboxID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, has := l.places[sandbox]
	if !has {
		return
	}
	delete(l.places, sandbox)
	a := l.accounts[p.account]
	a.sandboxes--
	a.cpus -= p.need.CPUs
	a.memoryMB -= p.need.MemoryMB
	if a.idle(time.Now()) {
		delete(l.accounts, p.account)
	}
}

func (l *Ledger) add(name string, a *account, sandbox cube.SandboxID, need cube.Resources) {
	a.sandboxes++
	a.cpus += need.CPUs
	a.memoryMB += need.MemoryMB
	l.accounts[name] = a
	l.places[sandbox] = place{account: name, need: need}
}

// sweep forgets accounts that have nothing, once in a while. Those that were
// left without sandboxes had to be remembered until their measure was full
// again: else killing a sandbox would be a way to make the next one sooner.
func (l *Ledger) sweep(now time.Time) {
	if now.Sub(l.swept) < refill {
		return
	}
	l.swept = now
	for name, a := range l.accounts {
		if a.idle(now) {
			delete(l.accounts, name)
		}
	}
}

// idle tells whether forgetting the account changes nothing.
func (a *account) idle(now time.Time) bool {
	return a.sandboxes == 0 && a.paused == 0 && a.snapshots == 0 && (a.creates == nil || now.Sub(a.created) >= refill)
}

// before returns the limits of an identity's own, where it has some, and else
// the settings'.
func before(own, settings cube.Limits) cube.Limits {
	choose := func(own, setting int) int {
		if own > 0 {
			return own
		}
		return setting
	}
	return cube.Limits{
		Sandboxes:        choose(own.Sandboxes, settings.Sandboxes),
		CPUs:             choose(own.CPUs, settings.CPUs),
		MemoryMB:         choose(own.MemoryMB, settings.MemoryMB),
		CreatesPerMinute: choose(own.CreatesPerMinute, settings.CreatesPerMinute),
		Paused:           choose(own.Paused, settings.Paused),
		SnapshotMB:       choose(own.SnapshotMB, settings.SnapshotMB),
	}
}

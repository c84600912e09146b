package quota

import (
	"time"

	"cube"
)

// Keep counts a sandbox that is being paused, or refuses and changes nothing. One
// that is counted is not counted again. own are the limits of who asks, if it is
// its account's. Kind: Exhausted.
func (l *Ledger) Keep(name string, own cube.Limits, sandbox cube.SandboxID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, has := l.kept[sandbox]; has {
		return nil
	}
	limit, has := before(own, l.limits).Paused, 0
	if a := l.accounts[name]; a != nil {
		has = a.paused
	}
	if limit > 0 && has >= limit {
		return cube.Errorf(cube.Exhausted, "You have %d of your %d paused sandboxes, and this one runs on: resume or kill one that you do not need", has, limit)
	}
	l.keep(name, sandbox)
	return nil
}

// AdoptKept counts a sandbox that is paused, however many its account has.
func (l *Ledger) AdoptKept(name string, sandbox cube.SandboxID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, has := l.kept[sandbox]; !has {
		l.keep(name, sandbox)
	}
}

// Unkeep says that a sandbox is paused no more. It does nothing for one that was
// not counted.
func (l *Ledger) Unkeep(sandbox cube.SandboxID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name, has := l.kept[sandbox]
	if !has {
		return
	}
	delete(l.kept, sandbox)
	a := l.accounts[name]
	a.paused--
	if a.idle(time.Now()) {
		delete(l.accounts, name)
	}
}

func (l *Ledger) keep(name string, sandbox cube.SandboxID) {
	a := l.accounts[name]
	if a == nil {
		a = &account{}
		l.accounts[name] = a
	}
	a.paused++
	l.kept[sandbox] = name
}

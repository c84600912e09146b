package quota

import (
	"time"

	"cube"
)

// held is what one snapshot takes.
type held struct {
	account string
	bytes   int64
}

const mib = 1 << 20

// MayHold refuses, before the work of making it, a snapshot of at least so many
// bytes that Hold would refuse. 0 is of a size that nobody knows. Kind: Exhausted.
func (l *Ledger) MayHold(name string, own cube.Limits, bytes int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mayHold(name, own, max(bytes, 1))
}

// Hold counts a snapshot, of a paused sandbox or of its own, with what it takes on
// the disk, or refuses and changes nothing. own are the limits of who asks, if it is
// its account's. Kind: Exhausted.
func (l *Ledger) Hold(name string, own cube.Limits, snapshot cube.SnapshotID, bytes int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.mayHold(name, own, bytes); err != nil {
		return err
	}
	l.hold(name, snapshot, bytes)
	return nil
}

// AdoptHeld counts a snapshot that exists, however much its account has.
func (l *Ledger) AdoptHeld(name string, snapshot cube.SnapshotID, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold(name, snapshot, bytes)
}

// Resize says that a snapshot takes another number of bytes now. It does nothing for
// one that is not counted.
func (l *Ledger) Resize(snapshot cube.SnapshotID, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h, has := l.held[snapshot]; has {
		l.hold(h.account, snapshot, bytes)
	}
}

// Drop says that a snapshot is gone, or about to be. It does nothing for one that is
// not counted.
func (l *Ledger) Drop(snapshot cube.SnapshotID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(snapshot)
}

// Held is what all snapshots that are counted take on the disk, in bytes.
func (l *Ledger) Held() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum int64
	for _, h := range l.held {
		sum += h.bytes
	}
	return sum
}

func (l *Ledger) mayHold(name string, own cube.Limits, bytes int64) error {
	limit, has := int64(before(own, l.limits).SnapshotMB)*mib, int64(0)
	if a := l.accounts[name]; a != nil {
		has = a.held
	}
	switch {
	case limit <= 0 || bytes <= limit-has:
		return nil
	case bytes > limit:
		return cube.Errorf(cube.Exhausted, "What is kept of this sandbox takes %d MiB on the disk, and you may have %d for all that is paused and for snapshots; the sandbox runs on: remove files in it, or ask the operator for more", ceilMiB(bytes), limit/mib)
	}
	return cube.Errorf(cube.Exhausted, "Your paused sandboxes and snapshots take %d of your %d MiB on the disk, and there is no room for one more; the sandbox runs on: delete snapshots, or resume or kill paused sandboxes, that you do not need", ceilMiB(has), limit/mib)
}

// ceilMiB never says 0 of what is something.
func ceilMiB(bytes int64) int64 { return (bytes + mib - 1) / mib }

func (l *Ledger) hold(name string, snapshot cube.SnapshotID, bytes int64) {
	l.drop(snapshot)
	a := l.accounts[name]
	if a == nil {
		a = &account{}
		l.accounts[name] = a
	}
	a.held += bytes
	a.snapshots++
	l.held[snapshot] = held{name, bytes}
}

func (l *Ledger) drop(snapshot cube.SnapshotID) {
	h, has := l.held[snapshot]
	if !has {
		return
	}
	delete(l.held, snapshot)
	a := l.accounts[h.account]
	a.held -= h.bytes
	a.snapshots--
	if a.idle(time.Now()) {
		delete(l.accounts, h.account)
	}
}

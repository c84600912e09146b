package watch

import "sync/atomic"

// Budget bounds what all watches that share it keep together: each alone may be
// small, and a thousand of them on one busy directory are not.
type Budget struct {
	bytes       allowance // of events that nobody has taken
	directories allowance
}

// NewBudget allows so many bytes of events, and so many watched directories.
func NewBudget(bytes, directories int64) *Budget {
	b := &Budget{}
	b.bytes.left.Store(bytes)
	b.directories.left.Store(directories)
	return b
}

// allowance is a number that is spent and given back, and never below 0.
type allowance struct{ left atomic.Int64 }

func (a *allowance) spend(n int64) bool {
	if a.left.Add(-n) >= 0 {
		return true
	}
	a.left.Add(n)
	return false
}

func (a *allowance) give(n int64) { a.left.Add(n) }

// cost is about what an event takes in memory, in bytes.
func (e Event) cost() int64 { return int64(len(e.Name)) + 48 }

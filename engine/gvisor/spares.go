package gvisor

import (
	"slices"
	"sync"
	"time"

	"cube"
)

// spareMemory is how long a kind of sandbox is remembered that nobody starts.
const spareMemory = 10 * time.Minute

// spares are the processes that wait, and what they should be. Those that were
// started last are most likely to be started next, so free places go to their
// kind; of others one is ended when that has none at all.
type spares struct {
	max  int
	wake chan struct{} // holds one; see keepSpares

	mu     sync.Mutex
	list   []*spare
	wanted []wantedKind // the last first
	atWork int          // starts
	closed bool
}

type wantedKind struct {
	spareKind
	last   time.Time
	starts int
}

const (
	// spareStarts is how often a kind must have been started: each step of a
	// template's build is one that is started once.
	spareStarts = 2
	// maxKinds is how many are remembered.
	maxKinds = 16
)

// begin notes that a sandbox is being started, and what it returns that it is no
// more: spares are made meanwhile by nobody.
func (s *spares) begin(kind spareKind) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.atWork++
	if kind.key != "" && s.max > 0 {
		now := wantedKind{spareKind: kind, last: time.Now(), starts: 1}
		if i := slices.IndexFunc(s.wanted, func(w wantedKind) bool { return w.key == kind.key }); i >= 0 {
			now.starts += s.wanted[i].starts
			s.wanted = slices.Delete(s.wanted, i, i+1)
		}
		s.wanted = slices.Insert(s.wanted, 0, now)
		s.wanted = s.wanted[:min(len(s.wanted), maxKinds)]
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.atWork--; s.atWork == 0 {
			s.notify()
		}
	}
}

// notify has it looked at whether there is something to make.
func (s *spares) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns one of a kind that nobody has taken, one that is made before one
// that is being made; nil if there is none.
func (s *spares) take(kind spareKind) *spare {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *spare
	for _, sp := range s.list {
		if kind.key == "" || sp.taken || sp.kind.key != kind.key {
			continue
		}
		found = sp
		if isMade(sp) {
			break
		}
	}
	if found != nil {
		found.taken = true
	}
	return found
}

func isMade(sp *spare) bool {
	select {
	case <-sp.made:
		return true
	default:
		return false
	}
}

func (s *spares) putBack(sp *spare) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp.taken = s.closed
}

// takeAll takes all that wait, of those that are named if any are.
func (s *spares) takeAll(which []cube.SandboxID) (taken []*spare) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.list {
		if (len(which) == 0 || slices.Contains(which, sp.id)) && s.claim(sp) {
			taken = append(taken, sp)
		}
	}
	return taken
}

func (s *spares) forget(sp *spare) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(other *spare) bool { return other == sp })
}

// has tells whether an id is that of a spare.
func (s *spares) has(id cube.SandboxID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.list, func(sp *spare) bool { return sp.id == id })
}

// next returns one to make, which is in the list by then, or one to end, or
// nothing.
func (s *spares) next() (missing, surplus *spare) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = slices.DeleteFunc(s.wanted, func(w wantedKind) bool { return time.Since(w.last) > spareMemory })
	have := map[string]int{}
	for _, sp := range s.list {
		have[sp.kind.key]++
		if !slices.ContainsFunc(s.wanted, func(w wantedKind) bool { return w.key == sp.kind.key }) && s.claim(sp) {
			return nil, sp
		}
	}
	first := slices.IndexFunc(s.wanted, func(w wantedKind) bool { return w.starts >= spareStarts })
	switch {
	case s.closed || s.atWork > 0 || first < 0:
	case len(s.list) < s.max:
		missing = &spare{id: cube.NewSandboxID(), kind: s.wanted[first].spareKind, made: make(chan struct{})}
		s.list = append(s.list, missing)
		return missing, nil
	case have[s.wanted[first].key] == 0:
		for _, w := range slices.Backward(s.wanted) {
			for _, sp := range s.list {
				if sp.kind.key == w.key && s.claim(sp) {
					return nil, sp
				}
			}
		}
	}
	return nil, nil
}

// claim takes one that waits. mu is held.
func (s *spares) claim(sp *spare) bool {
	if sp.taken || !isMade(sp) {
		return false
	}
	sp.taken = true
	return true
}

// close has no more made.
func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

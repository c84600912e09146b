package lifecycle

import (
	"context"
	"crypto/sha256"
	"maps"
	"sync"
	"time"

	"cube"
)

// pool is sandboxes that run and belong to nobody yet. Each has an identity since
// it was made, with keys and a token of its own that this server's memory alone
// holds, so claiming one wakes nothing in it; one whose agent must know more is
// told so. It has no row and nobody is let in: a server that starts again removes
// it as one that the store does not know.
type pool struct {
	size  int           // wanted of each kind
	short chan struct{} // tells the filler that some may be missing

	mu    sync.Mutex // guards what follows; taken last of all
	ready map[spareKind][]*spare
	from  map[spareKind]origin // of each kind that is wanted
	drop  func(*spare)         // has one removed, soon
	spent map[spareKind][]time.Time
}

// spareKind is what one must have been started with to be claimed for it.
type spareKind struct {
	template  cube.TemplateID
	snapshot  cube.SnapshotID
	resources cube.Resources
	internet  bool
	defaults  [sha256.Size]byte // of what its template gave it: see kindOf
}

// spare is one that nobody has claimed.
type spare struct {
	id     cube.SandboxID
	kind   spareKind
	is     cube.Sandbox       // what its agent was told: a secured sandbox, with secrets never shown before it is claimed
	forget context.CancelFunc // ends its watching
}

const (
	// poolFactor is how many times its size a kind may have under demand, which
	// is what was asked for within poolMemory.
	poolFactor = 4
	poolMemory = time.Minute
	// quietPause is how long the filler waits again and again for a moment in
	// which nobody else makes a sandbox, and quietPatience for how long at most.
	quietPause    = 10 * time.Millisecond
	quietPatience = time.Second
	// minFreeMemory is what the machine must have left for the filler to add one.
	minFreeMemory = 512 << 20
	// poolAccount is the filler's name in the queue of starts. No account has it.
	poolAccount = "pool"
)

func newPool(size int, drop func(*spare)) *pool {
	return &pool{
		size: size, short: make(chan struct{}, 1), drop: drop,
		ready: map[spareKind][]*spare{}, from: map[spareKind]origin{}, spent: map[spareKind][]time.Time{},
	}
}

// want has the filler see to a kind before anybody has asked for it.
func (p *pool) want(k spareKind, from origin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent[k], p.from[k] = p.recent(k), from
	p.notify()
}

// originOf is what a kind is made from, if it is wanted still.
func (p *pool) originOf(k spareKind) (origin, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from, wanted := p.from[k]
	return from, wanted
}

// take returns one of a kind, nil if there is none, and remembers the demand.
func (p *pool) take(k spareKind, from origin) *spare {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent[k], p.from[k] = append(p.recent(k), time.Now()), from
	p.notify()
	list := p.ready[k]
	if len(list) == 0 {
		return nil
	}
	last := list[len(list)-1]
	p.ready[k] = list[:len(list)-1]
	return last
}

// put adds one, also one that was taken in vain.
func (p *pool) put(s *spare) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready[s.kind] = append(p.ready[s.kind], s)
}

// recent is the demand for a kind that still counts, bounded; p.mu is held.
func (p *pool) recent(k spareKind) []time.Time {
	list := p.spent[k]
	for len(list) > 0 && (time.Since(list[0]) > poolMemory || len(list) >= poolFactor*p.size) {
		list = list[1:]
	}
	return list
}

func (p *pool) notify() {
	select {
	case p.short <- struct{}{}:
	default: // it is about to look anyway
	}
}

// missing returns a kind of which there are too few, and removes those of which
// there are too many, or which nobody has asked for within poolMemory but for
// size of them.
func (p *pool) missing() (spareKind, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.ready { // of a template that was replaced while one was made
		for _, asked := p.spent[k]; !asked && len(p.ready[k]) > 0; {
			p.dropOne(k)
		}
	}
	for k := range p.spent {
		p.spent[k] = p.recent(k)
		want := max(p.size, len(p.spent[k]))
		for len(p.ready[k]) > want {
			p.dropOne(k)
		}
		if len(p.ready[k]) < want {
			return k, true
		}
	}
	return spareKind{}, false
}

// dropOne removes one of a kind; p.mu is held.
func (p *pool) dropOne(k spareKind) {
	list := p.ready[k]
	last := list[len(list)-1]
	p.ready[k] = list[:len(list)-1]
	p.drop(last)
}

// lose takes one out that has died, and tells whether it was there.
func (p *pool) lose(s *spare) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.ready[s.kind] {
		if other == s {
			p.ready[s.kind] = append(p.ready[s.kind][:i], p.ready[s.kind][i+1:]...)
			return true
		}
	}
	return false
}

// empty removes those of the kinds that match, forgets the demand for them, and
// tells how many there were.
func (p *pool) empty(match func(spareKind) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for k := range p.ready {
		if !match(k) {
			continue
		}
		for len(p.ready[k]) > 0 {
			p.dropOne(k)
			n++
		}
		delete(p.ready, k)
	}
	maps.DeleteFunc(p.spent, func(k spareKind, _ []time.Time) bool { return match(k) })
	maps.DeleteFunc(p.from, func(k spareKind, _ origin) bool { return match(k) })
	return n
}

// shrink removes what is above most.
func (p *pool) shrink(most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.ready {
		for len(p.ready[k]) > 0 && p.countLocked() > most {
			p.dropOne(k)
		}
	}
}

func (p *pool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.countLocked()
}

func (p *pool) countLocked() int {
	n := 0
	for _, list := range p.ready {
		n += len(list)
	}
	return n
}

// emptyPool removes all of the pool, for somebody who needs the room, and tells
// whether there was any.
func (s *Sandboxes) emptyPool() bool {
	return s.pool.empty(func(spareKind) bool { return true }) > 0
}

// dropSpare has one removed that is in the pool no more.
func (s *Sandboxes) dropSpare(one *spare) {
	one.forget()
	go s.spawn(func() { s.stop(one.id) }) // by itself: the caller may hold s.mu
}

// drainPool removes what is in the pool when the server stops: nobody can claim
// it any more.
func (s *Sandboxes) drainPool() {
	var group sync.WaitGroup
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	for k, list := range s.pool.ready {
		for _, one := range list {
			one.forget()
			group.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
				defer cancel()
				if err := s.engine.Stop(ctx, one.id); err != nil {
					s.log.Warn("a sandbox of the pool could not be removed: the next server does", "sandbox", one.id, "error", err)
				}
			})
		}
		delete(s.pool.ready, k)
	}
	group.Wait()
}

package lifecycle

import (
	"cmp"
	"context"
	"maps"
	"sync"
	"time"

	"cube"
)

// pool is sandboxes that run and belong to nobody yet. Each has an agent without
// settings, which serves nobody, and no row: a server that starts again removes
// it as one that the store does not know. Whoever claims one gives it an
// identity, its environment and its tokens in the one call that every new
// agent waits for.
type pool struct {
	size  int           // wanted of each kind
	short chan struct{} // tells the filler that some may be missing

	mu    sync.Mutex // guards what follows; taken last of all
	ready map[spareKind][]*spare
	drop  func(*spare) // has one removed, soon
	spent map[spareKind][]time.Time
}

// spareKind is what one must have been started with to be claimed for it.
type spareKind struct {
	template  cube.TemplateID
	snapshot  cube.SnapshotID
	resources cube.Resources
	internet  bool
}

// spare is one that nobody has claimed.
type spare struct {
	id     cube.SandboxID
	kind   spareKind
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
		ready: map[spareKind][]*spare{}, spent: map[spareKind][]time.Time{},
	}
}

// take returns one of a kind, nil if there is none, and remembers the demand.
func (p *pool) take(k spareKind) *spare {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent[k] = append(p.recent(k), time.Now())
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

// claim makes a sandbox of the pool the wanted one, if there is one that fits and
// lives: done is false where there is none. One that cannot be had for another
// reason stays.
func (s *Sandboxes) claim(ctx context.Context, req CreateRequest, sandbox cube.Sandbox, from origin) (_ Created, done bool, _ error) {
	if s.pool.size == 0 || !from.pooled {
		return Created{}, false, nil
	}
	begun := time.Now()
	one := s.pool.take(spareKind{from.template, from.snapshot, sandbox.Resources, sandbox.Internet})
	if one == nil {
		return Created{}, false, nil
	}
	sandbox.ID = one.id
	sandbox.State = cube.Running
	l := newLive(sandbox)
	if err := s.reserve(req.caller, l); err != nil {
		s.pool.put(one)
		return Created{}, true, err
	}
	one.forget()
	undo := func() {
		l.halt()
		s.forget(l)
		s.spawn(func() { s.stop(one.id) })
	}
	err := s.applyNetwork(ctx, sandbox)
	if err == nil {
		err = initAgent(ctx, s.engine, sandbox, from.hostKey)
	}
	if err != nil {
		undo()
		if ctx.Err() != nil {
			return Created{}, true, explain(ctx, s.ctx, err)
		}
		s.log.Warn("a sandbox of the pool did not answer; another is started", "sandbox", one.id, "error", err)
		return Created{}, false, nil
	}
	timings := cube.Timings{Agent: time.Since(begun)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sandbox.EndAt = now().Add(req.Timeout)
	s.add(l) // before the row: once it is listed it can be killed
	if err := s.insert(ctx, l.sandbox, req.Idempotency); err != nil {
		undo()
		return Created{}, true, err
	}
	s.tend(l)
	s.observe(ctx, EventCreated, l.sandbox)
	s.log.Info("sandbox claimed", "sandbox", l.id, "template", sandbox.Template, "agent", timings.Agent)
	return Created{Sandbox: l.sandbox, Timings: timings}, true, nil
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

// fillPool is the filler: it adds to the pool what is missing, one after the
// other, when nobody else makes a sandbox.
func (s *Sandboxes) fillPool() {
	ticker := time.NewTicker(poolMemory)
	defer ticker.Stop()
	for {
		select {
		case <-s.pool.short:
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
		for {
			k, missing := s.pool.missing()
			if !missing || !s.awaitQuiet() || !s.addSpare(k) {
				break
			}
		}
	}
}

// awaitQuiet waits for a moment in which nobody makes a sandbox.
func (s *Sandboxes) awaitQuiet() bool {
	for waited := time.Duration(0); s.foreground.Load() > 0 && waited < quietPatience; waited += quietPause {
		select {
		case <-time.After(quietPause):
		case <-s.ctx.Done():
			return false
		}
	}
	return s.ctx.Err() == nil
}

// addSpare starts one and puts it into the pool, if there is room for it.
func (s *Sandboxes) addSpare(k spareKind) bool {
	s.mu.Lock()
	full := s.maxSandboxes > 0 && s.count+s.pool.count()+1 > s.maxSandboxes
	s.mu.Unlock()
	if full || s.freeMemory != nil && s.freeMemory() < minFreeMemory+int64(k.resources.MemoryMB)<<20/4 {
		return false
	}
	ctx, cancel := context.WithTimeout(s.ctx, createTimeout)
	defer cancel()
	if err := s.starts.Acquire(ctx, poolAccount); err != nil {
		return false
	}
	defer s.starts.Release()
	id := cube.NewSandboxID()
	_, err := s.engine.Start(ctx, cube.StartRequest{ID: id, Snapshot: k.snapshot, Resources: k.resources, Internet: k.internet})
	if err != nil {
		if s.ctx.Err() == nil {
			s.log.Warn("the pool could not be filled", "template", k.template, "error", err)
		}
		return false
	}
	watching, forget := context.WithCancel(s.ctx)
	one := &spare{id: id, kind: k, forget: forget}
	s.pool.put(one)
	s.spawn(func() {
		defer forget()
		if _, err := s.engine.Wait(watching, id); cmp.Or(err, watching.Err()) == nil && s.pool.lose(one) {
			s.stop(id)
			s.pool.notify()
		}
	})
	return true
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

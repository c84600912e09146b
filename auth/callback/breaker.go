package callback

import (
	"context"
	"sync"
)

// breaker knows which URLs are down: those that gave no answer several times in
// a row. One that is down has one question at a time, the probe, and is back
// with the first answer.
type breaker struct {
	limit int

	mu    sync.Mutex
	lines []line
	// changed is closed, and made anew, when a probe lands or a URL is back.
	changed chan struct{}
}

// line is what is known of one URL.
type line struct {
	down     bool
	failures int // in a row
	// epoch counts the times that it went down or came back. What was asked in
	// another epoch says nothing against this one.
	epoch uint64
	probe *probe // in flight; nil: none
}

// probe is a question to a URL that is down. Its fields are the breaker's to
// guard.
type probe struct {
	landed bool
	reply  reply
	err    error
}

func newBreaker(urls, limit int) *breaker {
	return &breaker{limit: limit, lines: make([]line, urls), changed: make(chan struct{})}
}

// enter returns the epoch in which a question begins, or false if the URL is
// down.
func (b *breaker) enter(url int) (epoch uint64, up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines[url].epoch, !b.lines[url].down
}

// answered notes that a URL gave an answer.
func (b *breaker) answered(url int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.back(&b.lines[url])
}

func (b *breaker) back(l *line) {
	l.failures = 0
	if l.down {
		l.down = false
		l.epoch++
		b.broadcast()
	}
}

// silent notes that a question of an epoch got no answer.
func (b *breaker) silent(url int, epoch uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &b.lines[url]
	if l.down || l.epoch != epoch {
		return
	}
	if l.failures++; l.failures >= b.limit {
		l.down = true
		l.epoch++
	}
}

// probe returns the probe of a URL: the one in flight, or a new one, which is
// the caller's to make and to land. It is nil if the URL is back by now.
func (b *breaker) probe(url int) (p *probe, mine bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &b.lines[url]
	if !l.down {
		return nil, false
	}
	if l.probe == nil {
		l.probe, mine = &probe{}, true
	}
	return l.probe, mine
}

// land notes what became of a probe.
func (b *breaker) land(url int, p *probe, r reply, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &b.lines[url]
	l.probe = nil
	p.landed, p.reply, p.err = true, r, err
	if err == nil {
		b.back(l)
	}
	b.broadcast()
}

func (b *breaker) broadcast() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// open tells whether any URL is down.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.lines {
		if b.lines[i].down {
			return true
		}
	}
	return false
}

// wait is one question's wait for a probe.
type wait struct {
	url   int
	probe *probe
	mine  bool // its question is this one, and so is its answer
}

// await waits until one of the URLs is back. Its reply is nil unless the probe
// that brought it back had this question. If all probes fail, the error is that
// of the last in the list, at once.
func (b *breaker) await(ctx context.Context, waits []wait) (url int, r *reply, err error) {
	for {
		b.mu.Lock()
		changed := b.changed
		inFlight := false
		for _, w := range waits {
			p := w.probe
			switch {
			case w.mine && p.landed && p.err == nil:
				b.mu.Unlock()
				return w.url, &p.reply, nil
			case w.mine && !p.landed:
				inFlight = true // nobody asks twice because somebody else got an answer
			case p.landed && p.err == nil, !b.lines[w.url].down:
				b.mu.Unlock()
				return w.url, nil, nil
			case !p.landed:
				inFlight = true
			default:
				err = p.err
			}
		}
		b.mu.Unlock()
		if !inFlight {
			return 0, nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, nil, over(ctx)
		}
	}
}

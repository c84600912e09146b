package process

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
)

// audience are the streams that follow a process. The rule: a follower that is
// slow slows the process, as a terminal does, because losing output is worse.
// One that takes nothing for as long as patience is let go. A process that
// nobody follows goes on; the next follower gets what was printed meanwhile, and
// what the last one had not delivered.
type audience struct {
	// moving is held while followers come and go, so that what one leaves behind
	// is there for the next.
	moving sync.Mutex

	mu        sync.Mutex // guards what follows
	followers map[*follower]struct{}
	missed    missed

	diary *diary
}

const (
	// bufferedEvents is how many events wait for a follower before the process
	// does: at 32 KiB each, 256 KiB.
	bufferedEvents = 8
	// patience is how long a process waits for a follower that takes nothing.
	patience = 10 * time.Minute
	// leaveWait is how long a new follower waits for one whose client is gone to
	// say what it could not deliver.
	leaveWait = 2 * time.Second
)

func errTooSlow() error {
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("the output was not read for %v: connect to the process again to go on from there", patience))
}

// follower is one stream.
type follower struct {
	events chan *pb.ProcessEvent
	ctx    context.Context // ends when it follows no more; its cause says why
	cancel context.CancelCauseFunc
	offers sync.WaitGroup // of those who offer it an event now
	left   chan struct{}  // closed by leave

	mu      sync.Mutex         // guards backlog
	backlog []*pb.ProcessEvent // what was printed before it came, and is not sent

	broken *pb.ProcessEvent // what could not be sent; of the one who sends
}

// join adds a follower, which is one until it leaves; it takes nothing more once
// ctx ends.
func (a *audience) join(ctx context.Context) *follower {
	f := &follower{events: make(chan *pb.ProcessEvent, bufferedEvents), left: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	a.awaitGone()
	a.moving.Lock()
	defer a.moving.Unlock()
	for _, gone := range a.present() {
		if gone.ctx.Err() != nil {
			a.drop(gone)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.followers == nil {
		a.followers = map[*follower]struct{}{}
	}
	a.followers[f] = struct{}{}
	f.backlog = a.missed.take()
	return f
}

// awaitGone waits a moment for streams whose clients are gone: what they could
// not deliver is for the one who comes.
func (a *audience) awaitGone() {
	for _, f := range a.present() {
		if f.ctx.Err() == nil {
			continue
		}
		select {
		case <-f.left:
		case <-time.After(leaveWait):
		}
	}
}

// leave is the last that the one who sends to a follower does. What it had not
// delivered is kept for the next, if there is no other now.
func (a *audience) leave(f *follower) {
	f.cancel(nil)
	a.moving.Lock()
	defer a.moving.Unlock()
	defer close(f.left)
	a.drop(f)
	if f.broken == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isAlone() {
		a.missed.putBack([]*pb.ProcessEvent{f.broken})
	}
}

// expel makes a follower leave. A process that waits for it waits no more.
func (a *audience) expel(f *follower, why error) {
	f.cancel(why)
	a.moving.Lock()
	defer a.moving.Unlock()
	a.drop(f)
}

// drop removes a follower that takes nothing more, and keeps what it has; moving
// is held.
func (a *audience) drop(f *follower) {
	a.mu.Lock()
	delete(a.followers, f)
	a.mu.Unlock()
	f.offers.Wait() // they end, as its context has
	left := f.rest()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isAlone() {
		a.missed.putBack(left)
	}
}

// isAlone tells whether nobody follows; mu is held.
func (a *audience) isAlone() bool {
	for f := range a.followers {
		if f.ctx.Err() == nil {
			return false
		}
	}
	return true
}

// next returns what was printed before the follower came, one after the other,
// then nil.
func (f *follower) next() *pb.ProcessEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.backlog) == 0 {
		return nil
	}
	e := f.backlog[0]
	f.backlog = f.backlog[1:]
	return e
}

// rest takes all that a follower has.
func (f *follower) rest() []*pb.ProcessEvent {
	f.mu.Lock()
	rest := f.backlog
	f.backlog = nil
	f.mu.Unlock()
	for {
		select {
		case e := <-f.events:
			rest = append(rest, e)
		default:
			return rest
		}
	}
}

// publish gives an event to all followers and returns when each has taken it or
// follows no more. If none has, it is kept.
func (a *audience) publish(e *pb.ProcessEvent) {
	a.diary.note(e)
	for taken := false; !taken; {
		followers := a.reachOrKeep(e)
		if len(followers) == 0 {
			return
		}
		for _, f := range followers {
			answer := f.offer(e)
			f.offers.Done()
			taken = taken || answer == tookIt
			if answer == isSlow {
				a.expel(f, errTooSlow())
			}
		}
	}
}

// forget lets go of what nobody has read, and of what those leave behind who
// follow still: nobody can ask for it, and it must not count for ever.
func (a *audience) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missed.take()
	a.missed.all = nil
}

// reachOrKeep returns those who follow, each with an offer announced; if there is
// none it keeps the event.
func (a *audience) reachOrKeep(e *pb.ProcessEvent) (followers []*follower) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.followers {
		if f.ctx.Err() == nil {
			f.offers.Add(1)
			followers = append(followers, f)
		}
	}
	if len(followers) == 0 {
		a.missed.add(e)
	}
	return followers
}

func (a *audience) present() []*follower {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.followers))
}

// taking is what a follower did with an event.
type taking int

const (
	tookIt taking = iota
	isGone        // it follows no more
	isSlow        // it is there and takes nothing
)

func (f *follower) offer(e *pb.ProcessEvent) taking {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case f.events <- e:
		return tookIt
	case <-f.ctx.Done():
		return isGone
	case <-timer.C:
		return isSlow
	}
}

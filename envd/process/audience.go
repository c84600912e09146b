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
// nobody follows goes on, and its output is not kept.
type audience struct {
	mu        sync.Mutex // guards followers
	followers map[*follower]struct{}

	diary *diary
}

const (
	// bufferedEvents is how many events wait for a follower before the process
	// does: at 32 KiB each, 256 KiB.
	bufferedEvents = 8
	// patience is how long a process waits for a follower that takes nothing.
	patience = 10 * time.Minute
)

func errTooSlow() error {
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("the output was not read for %v: connect to the process again to go on from there", patience))
}

// follower is one stream.
type follower struct {
	events chan *pb.ProcessEvent
	ctx    context.Context // ends when it follows no more; its cause says why
	cancel context.CancelCauseFunc
}

// join adds a follower, which is one until ctx ends or it leaves.
func (a *audience) join(ctx context.Context) *follower {
	f := &follower{events: make(chan *pb.ProcessEvent, bufferedEvents)}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.followers == nil {
		a.followers = map[*follower]struct{}{}
	}
	a.followers[f] = struct{}{}
	return f
}

// leave removes a follower. A process that waits for it waits no more.
func (a *audience) leave(f *follower, why error) {
	f.cancel(why)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.followers, f)
}

// publish gives an event to all followers and returns when each has taken it or
// follows no more.
func (a *audience) publish(e *pb.ProcessEvent) {
	a.diary.note(e)
	for _, f := range a.present() {
		if !f.offer(e) {
			a.leave(f, errTooSlow())
		}
	}
}

func (a *audience) present() []*follower {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.followers))
}

// offer returns false if the follower is there and does not take the event.
func (f *follower) offer(e *pb.ProcessEvent) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case f.events <- e:
	case <-f.ctx.Done():
	case <-timer.C:
		return false
	}
	return true
}

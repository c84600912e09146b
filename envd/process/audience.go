package process

import (
	"context"
	"sync"

	pb "cube/envd/gen/process"
)

// audience are the streams that follow a process. The rule: a follower that is
// slow slows the process, as a terminal does, because losing output is worse; a
// process that nobody follows goes on, and its output is not kept.
type audience struct {
	mu        sync.Mutex // guards followers, and orders who joins and what is published
	followers map[*follower]struct{}
}

// follower is one stream.
type follower struct {
	events chan *pb.ProcessEvent
	left   <-chan struct{} // closed when it follows no more
}

// bufferedEvents is how many events wait for a follower before the process
// does: at 32 KiB each, 1 MiB.
const bufferedEvents = 32

// join adds a follower, which is one until ctx ends.
func (a *audience) join(ctx context.Context) *follower {
	f := &follower{events: make(chan *pb.ProcessEvent, bufferedEvents), left: ctx.Done()}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.followers == nil {
		a.followers = map[*follower]struct{}{}
	}
	a.followers[f] = struct{}{}
	return f
}

func (a *audience) leave(f *follower) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.followers, f)
}

// publish gives an event to all followers, in the same order to each.
func (a *audience) publish(e *pb.ProcessEvent) {
	a.mu.Lock()
	followers := make([]*follower, 0, len(a.followers))
	for f := range a.followers {
		followers = append(followers, f)
	}
	a.mu.Unlock()
	for _, f := range followers {
		select {
		case f.events <- e:
		case <-f.left:
		}
	}
}

package quota

import (
	"container/list"
	"context"
	"sync"

	"cube"
)

// Queue hands out a number of slots. Those who wait for one take turns by
// account, and within an account in the order in which they came: one that asks
// for a thousand does not keep another waiting.
type Queue struct {
	maxWaiting, maxOfAccount int

	mu      sync.Mutex // guards what follows
	free    int        // more than 0 only while nobody waits
	waiting int
	lines   map[string]*line // of the accounts that wait
	turns   list.List        // of *line: all of them, the next one first
}

// line is the part of a queue that is one account's.
type line struct {
	account string
	waiters list.List     // of *waiter, never empty
	turn    *list.Element // in Queue.turns
}

type waiter struct {
	line  *line
	place *list.Element // in line.waiters; nil once it has left
	ready chan struct{} // closed when the slot is its own
}

// NewQueue makes a queue for slots, at least one. At most maxWaiting may wait,
// and maxOfAccount of one account.
func NewQueue(slots, maxWaiting, maxOfAccount int) *Queue {
	return &Queue{free: max(slots, 1), maxWaiting: maxWaiting, maxOfAccount: maxOfAccount, lines: map[string]*line{}}
}

// Acquire waits for a slot, which Release gives back. When ctx ends before, it
// returns ctx's error and holds none. Kind: Exhausted (too many wait).
func (q *Queue) Acquire(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, err := q.join(account)
	if w == nil {
		return err
	}
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		q.leave(w)
		return ctx.Err()
	}
}

// Release gives a slot back that Acquire gave, to whoever is next.
func (q *Queue) Release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.release()
}

// join takes a free slot or a place in the account's line; no waiter and no
// error means a slot.
func (q *Queue) join(account string) (*waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free > 0 {
		q.free--
		return nil, nil
	}
	if q.waiting >= q.maxWaiting {
		return nil, cube.Errorf(cube.Exhausted, "%d sandboxes wait for their start, and no more may: try again in a moment", q.waiting)
	}
	l := q.lines[account]
	if l == nil {
		l = &line{account: account}
		l.turn = q.turns.PushBack(l)
		q.lines[account] = l
	} else if l.waiters.Len() >= q.maxOfAccount {
		return nil, cube.Errorf(cube.Exhausted, "%d of your sandboxes wait for their start, and no more may: try again when some have started", l.waiters.Len())
	}
	w := &waiter{line: l, ready: make(chan struct{})}
	w.place = l.waiters.PushBack(w)
	q.waiting++
	return w, nil
}

// leave takes out a waiter whose context has ended. One that was given a slot at
// that very moment passes it on.
func (q *Queue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place == nil {
		q.release()
		return
	}
	q.remove(w)
}

func (q *Queue) release() {
	front := q.turns.Front()
	if front == nil {
		q.free++
		return
	}
	l := front.Value.(*line)
	q.turns.MoveToBack(front)
	w := l.waiters.Front().Value.(*waiter)
	q.remove(w)
	close(w.ready)
}

// remove takes a waiter out, and its account's line when nobody is left in it.
func (q *Queue) remove(w *waiter) {
	l := w.line
	l.waiters.Remove(w.place)
	w.place = nil
	q.waiting--
	if l.waiters.Len() == 0 {
		q.turns.Remove(l.turn)
		delete(q.lines, l.account)
	}
}

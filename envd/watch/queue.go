package watch

import "context"

// Take returns the events since it was last called, at once. The error is that of
// a watch that has ended, once all that it saw is taken.
func (w *Watch) Take() ([]Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.take(len(w.events))
}

func (w *Watch) take(most int) ([]Event, error) {
	if len(w.events) == 0 {
		return nil, w.failure
	}
	n := min(most, len(w.events))
	events := w.events[:n:n]
	if w.events = w.events[n:]; len(w.events) == 0 {
		w.events = nil
	}
	for _, event := range events {
		w.budget.bytes.give(event.cost())
	}
	return events, nil
}

// Wait takes some of the events once there are any, or ctx ends.
func (w *Watch) Wait(ctx context.Context) ([]Event, error) {
	for {
		w.mu.Lock()
		events, err := w.take(maxAtOnce)
		changed := w.changed
		w.mu.Unlock()
		if len(events) > 0 || err != nil {
			return events, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// put keeps an event; one that says the same as the last adds nothing.
func (w *Watch) put(event Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch n := len(w.events); {
	case w.failure != nil, n > 0 && w.events[n-1] == event:
		return
	case n == MaxEvents, !w.budget.bytes.spend(event.cost()):
		w.failure = ErrTooManyEvents
	default:
		w.events = append(w.events, event)
	}
	w.signal()
}

func (w *Watch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		w.failure = err
		w.signal()
	}
}

func (w *Watch) hasFailed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure != nil
}

// signal wakes whoever waits. mu is held.
func (w *Watch) signal() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// release gives back what the watch has spent. What it saw is not told any more.
func (w *Watch) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.take(len(w.events))
	w.budget.directories.give(int64(len(w.known)))
	clear(w.known)
}

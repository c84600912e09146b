package remote

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Progress is what is known so far. It is a copy.
type Progress struct {
	Started, Finished, Failed int
	Elapsed                   time.Duration
	Times                     [Stages][]time.Duration // in the order of their ends
	LastError                 error                   // of the last that failed
}

// Run measures n sandboxes, so many at a time, and returns when the last is
// killed, or, once ctx ends, when those are that were begun. look gets each
// change; it is called by one goroutine at a time and may be nil.
func Run(ctx context.Context, t Target, n, atATime int, look func(Progress)) Progress {
	var (
		mu       sync.Mutex
		progress Progress
		running  sync.WaitGroup
	)
	began := time.Now()
	change := func(f func(*Progress)) {
		mu.Lock()
		defer mu.Unlock()
		f(&progress)
		progress.Elapsed = time.Since(began)
		if look != nil {
			look(progress.clone())
		}
	}
	next := make(chan struct{})
	for range min(n, atATime) {
		running.Go(func() {
			for range next {
				change(func(p *Progress) { p.Started++ })
				err := t.once(ctx, func(s Stage, took time.Duration) {
					change(func(p *Progress) { p.Times[s] = append(p.Times[s], took) })
				})
				change(func(p *Progress) {
					p.Finished++
					if err != nil {
						p.Failed++
						p.LastError = err
					}
				})
			}
		})
	}
feeding:
	for range n {
		select {
		case next <- struct{}{}:
		case <-ctx.Done():
			break feeding
		}
	}
	close(next)
	running.Wait()
	return progress
}

func (p Progress) clone() Progress {
	for i := range p.Times {
		p.Times[i] = slices.Clone(p.Times[i])
	}
	return p
}

// Percentile is the smallest time that the given share of all does not exceed:
// the nearest rank. 0 of none.
func Percentile(times []time.Duration, share float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// burst is how many are created at once, and so how large the pool is.
	burst  = 50
	bursts = 3
	// fillTimeout bounds the wait for a full pool.
	fillTimeout = 5 * time.Minute
)

// measurePool times creating out of a pool that is full: one at a time, and as
// many at once as there are in it. The pool is filled outside the time.
func measurePool(ctx context.Context, _ *server, o options, add func(...result)) error {
	// The other server has the usual network.
	s, err := startServer(ctx, "--sandbox-network", "10.214.0.0/16", "--sandbox-ipv6", "off", "--pool-size", fmt.Sprint(burst), "--admin-bind", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.createAndKill(1, new(timings)); err != nil { // the demand that fills it
		return err
	}
	var single timings
	for range o.n {
		if err := s.awaitPooled(ctx, burst); err != nil {
			return err
		}
		if err := s.createAndKill(1, &single); err != nil {
			return err
		}
	}
	row := milliseconds("create, from the pool, 1 at a time", single.times, single.failed)
	row.Series, row.X = "burst", 1
	add(row)

	var all timings
	for range bursts {
		if err := s.awaitPooled(ctx, burst); err != nil {
			return err
		}
		if err := s.createAndKill(burst, &all); err != nil {
			return err
		}
	}
	row = milliseconds(fmt.Sprintf("create, from the pool, %d at once", burst), all.times, all.failed)
	row.Series, row.X = "burst", burst
	var sum time.Duration
	for _, t := range all.times {
		sum += t
	}
	row.Comment = fmt.Sprintf("mean %.1f", float64((sum/time.Duration(max(1, len(all.times)))).Microseconds())/1000)
	add(row)
	return nil
}

// timings are collected by several goroutines.
type timings struct {
	mu     sync.Mutex
	times  []time.Duration
	failed int
}

// createAndKill creates so many at once, and kills them outside the time.
func (s *server) createAndKill(n int, t *timings) error {
	var creating sync.WaitGroup
	var ids []string
	var last error
	for range n {
		creating.Go(func() {
			began := time.Now()
			id, _, err := s.create()
			took := time.Since(began)
			t.mu.Lock()
			defer t.mu.Unlock()
			if err != nil {
				t.failed++
				last = err
				return
			}
			t.times = append(t.times, took)
			ids = append(ids, id)
		})
	}
	creating.Wait()
	for _, id := range ids {
		last = errors.Join(last, s.kill(id))
	}
	return last
}

// awaitPooled waits until so many wait in the pool, by the server's metrics.
func (s *server) awaitPooled(ctx context.Context, n int) error {
	for deadline := time.Now().Add(fillTimeout); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		resp, err := s.client.Get(s.operators + "/metrics")
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			_ = resp.Body.Close()
			return fmt.Errorf("the metrics: %s", resp.Status)
		}
		pooled := -1
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if rest, found := strings.CutPrefix(lines.Text(), "cube_sandboxes_pooled "); found {
				_, _ = fmt.Sscan(rest, &pooled)
			}
		}
		_ = resp.Body.Close()
		if pooled >= n {
			return nil
		}
	}
	return errors.New("the pool is not filled")
}

package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// measureCreate times POST /v2/sandboxes to its answer, which comes when the
// sandbox's agent answers. Every sandbox is killed again outside the time.
func measureCreate(ctx context.Context, s *server, o options, add func(...result)) error {
	for range 3 { // warm: the page cache, the base image, the client's connection
		id, _, err := s.create()
		if err != nil {
			return err
		}
		if err := s.kill(id); err != nil {
			return err
		}
	}
	for _, concurrency := range []int{1, 10, 50} {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var (
			mu      sync.Mutex
			times   []time.Duration
			stages  = map[string][]time.Duration{}
			failed  int
			waiting sync.WaitGroup
		)
		next := make(chan struct{})
		began := time.Now()
		used, _ := s.cpu.used()
		for range concurrency {
			waiting.Go(func() {
				for range next {
					start := time.Now()
					id, timing, err := s.create()
					took := time.Since(start)
					mu.Lock()
					if err != nil {
						failed++
					} else {
						times = append(times, took)
						addStages(stages, timing)
					}
					mu.Unlock()
					if err == nil {
						_ = s.kill(id)
					}
				}
			})
		}
		for range o.n {
			next <- struct{}{}
		}
		close(next)
		waiting.Wait()
		row := milliseconds(fmt.Sprintf("create, %d at a time", concurrency), times, failed)
		row.Series, row.X = "create", float64(concurrency)
		row.Comment = fmt.Sprintf("%.1f creations and kills a second, %s", float64(len(times))/time.Since(began).Seconds(), s.cpu.each(used, o.n))
		add(row)
		if concurrency == 1 {
			for _, stage := range []string{"queue", "root", "network", "boot", "agent"} {
				add(milliseconds("  of it "+stage, stages[stage], 0))
			}
		}
	}
	return nil
}

var stagePattern = regexp.MustCompile(`([a-z]+);dur=([0-9.]+)`)

// addStages collects the stages of one Server-Timing header.
func addStages(stages map[string][]time.Duration, header string) {
	for _, match := range stagePattern.FindAllStringSubmatch(header, -1) {
		if ms, err := strconv.ParseFloat(match[2], 64); err == nil {
			stages[match[1]] = append(stages[match[1]], time.Duration(ms*float64(time.Millisecond)))
		}
	}
}

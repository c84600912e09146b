package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cube/auth/cache"
	"cube/auth/decision"
)

// saturationConnections each send their next request as soon as they have an
// answer, when throughput is measured.
const saturationConnections = 64

// measured is what one run found of one variant.
type measured struct {
	p50, p90, p99 float64 // µs
	late          float64 // µs; p99 of how much later than intended requests went out
	throughput    float64 // requests a second
	used          float64 // share of its core that the system used at that throughput
	cost          float64 // µs of processor time of the system, for each request at that throughput
	connections   float64 // to the auth service
	questions     float64 // for each request
	failed        float64 // answers other than 200, or none
}

// speed measures what asking costs: every system without and with it, by turns.
func (b *bench) speed() error {
	var variants []variant
	for _, s := range b.systems {
		variants = append(variants, variant{s, false, false}, variant{s, true, false})
		if s.caches {
			variants = append(variants, variant{s, true, true})
		}
	}
	runs := map[string][]measured{}
	for i := range b.options.runs {
		// Each run begins with another variant, so that none is always first.
		turn := append(slices.Clone(variants[i%len(variants):]), variants[:i%len(variants)]...)
		for _, v := range turn {
			m, err := b.measure(v)
			if err != nil {
				return fmt.Errorf("%s: %w", v, err)
			}
			runs[v.String()] = append(runs[v.String()], m)
		}
		// The two that stand for the ways that no system can be faster than.
		for name, target := range map[string]struct {
			addr   string
			across bool
		}{"backend alone": {b.backend.addr, false}, "auth service alone": {b.service.addr, true}} {
			m, err := b.measureLatency(target.addr, target.across)
			if err != nil {
				return err
			}
			runs[name] = append(runs[name], m)
		}
	}
	b.printSpeed(variants, runs)
	printRemembered()
	return nil
}

// measure starts a system, measures it, and ends it.
func (b *bench) measure(v variant) (measured, error) {
	p, err := b.start(v, callbackTimeout)
	if err != nil {
		return measured{}, err
	}
	defer p.stop()
	saturate := load{addr: p.Listen, request: request, connections: saturationConnections, duration: 500 * time.Millisecond, patience: 10 * time.Second}
	if _, err := saturate.run(); err != nil { // warm
		return measured{}, err
	}
	connections := b.service.connections.Load()
	m, err := b.measureLatency(p.Listen, false)
	if err != nil {
		return measured{}, err
	}
	saturate.duration = b.options.saturation
	questions, used := b.service.questions.Load(), p.processorTime()
	began := time.Now()
	outcomes, err := saturate.run()
	if err != nil {
		return measured{}, err
	}
	took := time.Since(began)
	used = p.processorTime() - used
	n := float64(len(outcomes))
	m.throughput = n / took.Seconds()
	m.used = used.Seconds() / took.Seconds()
	m.cost = used.Seconds() / n * 1e6
	m.questions = float64(b.service.questions.Load()-questions) / n
	m.connections = float64(b.service.connections.Load() - connections)
	m.failed += float64(failures(outcomes))
	return m, b.ctx.Err()
}

func (b *bench) measureLatency(addr string, across bool) (measured, error) {
	outcomes, err := load{addr: addr, request: request, perSecond: b.options.rate, duration: b.options.latency,
		connections: 8, maxConnections: 512, patience: 10 * time.Second, across: across}.run()
	if err != nil {
		return measured{}, err
	}
	var took, late []time.Duration
	for _, o := range outcomes {
		took, late = append(took, o.took), append(late, o.late)
	}
	return measured{
		p50: microseconds(took, 50), p90: microseconds(took, 90), p99: microseconds(took, 99),
		late: microseconds(late, 99), failed: float64(failures(outcomes)),
	}, nil
}

func failures(outcomes []outcome) int {
	failed := 0
	for _, o := range outcomes {
		if o.status != 200 {
			failed++
		}
	}
	return failed
}

// microseconds returns a percentile, by the nearest rank.
func microseconds(times []time.Duration, percent int) float64 {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return float64(times[min(len(times)-1, len(times)*percent/100)]) / float64(time.Microsecond)
}

// median returns the middle of a figure of all runs, and how far they lie apart.
func median(runs []measured, figure func(measured) float64) (middle, lowest, highest float64) {
	var all []float64
	for _, m := range runs {
		all = append(all, figure(m))
	}
	slices.Sort(all)
	return all[len(all)/2], all[0], all[len(all)-1]
}

func (b *bench) printSpeed(variants []variant, runs map[string][]measured) {
	cell := func(name string, figure func(measured) float64) string {
		middle, lowest, highest := median(runs[name], figure)
		return fmt.Sprintf("%.0f (%.0f–%.0f)", middle, lowest, highest)
	}
	fmt.Printf("\n### Latency, in µs from the intended time on: median of %d runs (lowest–highest)\n\n", b.options.runs)
	fmt.Print("| | p50 | p90 | p99 | sent late, p99 | not 200 |\n|---|---|---|---|---|---|\n")
	names := []string{"backend alone", "auth service alone"}
	for _, v := range variants {
		names = append(names, v.String())
	}
	for _, name := range names {
		fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", name,
			cell(name, func(m measured) float64 { return m.p50 }), cell(name, func(m measured) float64 { return m.p90 }),
			cell(name, func(m measured) float64 { return m.p99 }), cell(name, func(m measured) float64 { return m.late }),
			cell(name, func(m measured) float64 { return m.failed }))
	}
	fmt.Print("\n### What asking adds to the same proxy, in µs, run by run\n\n| | p50 | p90 | p99 | processor time of a request |\n|---|---|---|---|---|\n")
	for _, v := range variants {
		if !v.auth {
			continue
		}
		with, without := runs[v.String()], runs[variant{v.system, false, false}.String()]
		var added []measured
		for i := range with {
			added = append(added, measured{
				p50: with[i].p50 - without[i].p50, p90: with[i].p90 - without[i].p90,
				p99: with[i].p99 - without[i].p99, cost: with[i].cost - without[i].cost,
			})
		}
		runs["added "+v.String()] = added
		name := "added " + v.String()
		fmt.Printf("| %s | %s | %s | %s | %s |\n", v,
			cell(name, func(m measured) float64 { return m.p50 }), cell(name, func(m measured) float64 { return m.p90 }),
			cell(name, func(m measured) float64 { return m.p99 }), cell(name, func(m measured) float64 { return m.cost }))
	}
	fmt.Printf("\n### Throughput with %d connections\n\n", saturationConnections)
	fmt.Print("| | requests a second | % of its core | µs of processor for a request | connections to the auth service | questions for a request |\n|---|---|---|---|---|---|\n")
	for _, v := range variants {
		name := v.String()
		questions, _, _ := median(runs[name], func(m measured) float64 { return m.questions })
		fmt.Printf("| %s | %s | %s | %s | %s | %.2f |\n", name,
			cell(name, func(m measured) float64 { return m.throughput }), cell(name, func(m measured) float64 { return 100 * m.used }),
			cell(name, func(m measured) float64 { return m.cost }), cell(name, func(m measured) float64 { return m.connections }), questions)
	}
}

// yes decides without asking anybody.
type yes struct{}

func (yes) Decide(context.Context, decision.Question) (decision.Answer, error) {
	return decision.Answer{Allowed: true, Status: 200, Source: decision.FromCallback}, nil
}

// printRemembered measures a remembered decision alone, without HTTP around it.
func printRemembered() {
	const n = 200_000
	c := cache.New(yes{}, cache.Config{TTL: time.Hour})
	defer c.Close()
	q := decision.Question{Credential: decision.Credential{Kind: decision.APIKey, Secret: strings.Repeat("k", 40)}, Method: "GET", Path: "/sandboxes"}
	decide := func() { _, _ = c.Decide(context.Background(), q) }
	decide()
	allocations := testing.AllocsPerRun(n, decide)
	began := time.Now()
	for range n {
		decide()
	}
	fmt.Printf("\nA remembered decision of cube alone: %d ns, %.0f allocations.\n", time.Since(began).Nanoseconds()/n, allocations)
}

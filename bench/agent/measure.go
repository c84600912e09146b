package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	fileBytes    = 100 << 20
	smallFiles   = 10000
	smallDir     = "/root/small"
	gate         = "/root/gate"
	lines        = 50 // that each of the commands prints, every one by itself
	lineBytes    = 64
	startsAtOnce = 64 // that the client asks for
)

// measurement is one thing that both agents do. Each do records its own times.
type measurement struct {
	name string
	do   func(context.Context, *record, *agent) error
}

// prepare makes what is measured: a directory of files, and a gate. The gate is
// a pipe that lets through as many commands as there are bytes in it. It is held
// open, so that none gets lost.
func prepare(ctx context.Context, h *sandbox) error {
	if _, err := h.shell(ctx, fmt.Sprintf("mkdir %s && cd %s && seq -f file-%%05g %d | xargs touch && mkfifo %s", smallDir, smallDir, smallFiles, gate)); err != nil {
		return err
	}
	_, err := h.start(ctx, "/bin/sh", "-c", "exec sleep infinity <>"+gate)
	return err
}

func measurements(h *sandbox, o options) []measurement {
	content := make([]byte, fileBytes)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(content) // never fails
	return []measurement{
		{"a command", roundTrips},
		{"upload", func(ctx context.Context, r *record, a *agent) error {
			return severalTimes(r, "100 MiB up", a, func() error { return a.upload(ctx, "/root/big-"+a.name, bytes.NewReader(content)) })
		}},
		{"download", func(ctx context.Context, r *record, a *agent) error {
			return severalTimes(r, "100 MiB down", a, func() error {
				n, err := a.download(ctx, "/root/big-"+a.name)
				return expect(n, fileBytes, err)
			})
		}},
		{"list", func(ctx context.Context, r *record, a *agent) error {
			return severalTimes(r, "10,000 files listed", a, func() error {
				n, err := a.list(ctx, smallDir)
				return expect(n, smallFiles, err)
			})
		}},
		{fmt.Sprintf("%d commands", o.commands), func(ctx context.Context, r *record, a *agent) error { return crowd(ctx, r, h, a, o.commands) }},
	}
}

// roundTrips runs the smallest command, one after the other.
func roundTrips(ctx context.Context, r *record, a *agent) error {
	for range 50 {
		if err := timed(r, "a command, start to end", a, func() error {
			c, err := a.start(ctx, "/bin/true")
			if err != nil {
				return err
			}
			return c.wait(nil)
		}); err != nil {
			return err
		}
	}
	return nil
}

// crowd starts commands, lets them all print at once, and reads all their streams.
func crowd(ctx context.Context, r *record, h *sandbox, a *agent, n int) error {
	script := fmt.Sprintf("read go <>%s; i=0; while [ $i -lt %d ]; do printf '%%0%dd\\n' $i; i=$((i+1)); done", gate, lines, lineBytes-1)
	commands := make([]*command, n)
	var starts errgroup.Group
	starts.SetLimit(startsAtOnce)
	if err := timed(r, fmt.Sprintf("%d commands started", n), a, func() error {
		for i := range commands {
			starts.Go(func() (err error) {
				commands[i], err = a.start(ctx, "/bin/sh", "-c", script)
				return err
			})
		}
		return starts.Wait()
	}); err != nil {
		return err
	}
	return timed(r, fmt.Sprintf("their %d streams of %d lines read", n, lines), a, func() error {
		var ends errgroup.Group
		for _, c := range commands {
			ends.Go(func() error {
				err := c.wait(nil)
				return expect(c.printed, lines*lineBytes, err)
			})
		}
		if _, err := h.shell(ctx, fmt.Sprintf("head -c %d /dev/zero | tr '\\0' '\\n' >%s", n, gate)); err != nil {
			return err
		}
		return ends.Wait()
	})
}

// takeTurns measures one thing with each agent, while the other is stopped, and
// what processor time it takes the agent.
func takeTurns(ctx context.Context, h *sandbox, r *record, m measurement, agents []*agent, reversed bool) error {
	for i := range agents {
		a, other := agents[i], agents[1-i]
		if reversed {
			a, other = other, a
		}
		if err := h.signal(ctx, "STOP", other); err != nil {
			return err
		}
		before, err := h.processorTime(ctx, a)
		if err != nil {
			return err
		}
		if err := m.do(ctx, r, a); err != nil {
			return fmt.Errorf("%s: %s: %w", a.name, m.name, err)
		}
		after, err := h.processorTime(ctx, a)
		if err != nil {
			return err
		}
		r.add(m.name+": the agent's processor time", "ms", a, milliseconds(after-before))
		if err := h.signal(ctx, "CONT", other); err != nil {
			return err
		}
	}
	return nil
}

func timed(r *record, name string, a *agent, do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	r.add(name, "ms", a, milliseconds(time.Since(began)))
	return nil
}

// severalTimes is for what is over soon.
func severalTimes(r *record, name string, a *agent, do func() error) error {
	for range 3 {
		if err := timed(r, name, a, do); err != nil {
			return err
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// expect is an error if there was one, or if it is not what was wanted.
func expect[T int | int64](got, want T, err error) error {
	if err == nil && got != want {
		return fmt.Errorf("%d came, not %d", got, want)
	}
	return err
}

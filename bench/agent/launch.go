package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// program is an agent to start in the sandbox.
type program struct {
	name, file string // the file is on this machine
	port       string
	args       []string
}

// launchTimeout is how long an agent may take until it answers.
const launchTimeout = time.Minute

// launch brings a program into the sandbox and starts it, as root and by the
// first agent: so whatever is measured is reached by the same way, the tunnel.
func (h *sandbox) launch(ctx context.Context, p program) (*agent, error) {
	file, err := os.Open(p.file)
	if err != nil {
		return nil, fmt.Errorf("the agent %q: %w", p.name, err)
	}
	defer file.Close()
	path := "/root/agent-" + p.name
	if err := h.upload(ctx, path, file); err != nil {
		return nil, err
	}
	if _, err := h.shell(ctx, "chmod 755 "+path); err != nil {
		return nil, err
	}
	c, err := h.start(ctx, path, p.args...)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.wait(os.Stderr) }() // ends with the sandbox
	a := newAgent(h.server, h.id, p.name, p.port)
	a.pid = c.pid
	deadline := time.After(launchTimeout)
	for {
		err := a.initialise(ctx)
		if err == nil {
			return a, nil
		}
		select {
		case e := <-ended:
			return nil, errors.Join(fmt.Errorf("the agent %q ended", p.name), e)
		case <-deadline:
			return nil, fmt.Errorf("the agent %q does not answer: %w", p.name, err)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond): // until it listens
		}
	}
}

// signal sends an agent a signal: STOP keeps it off the processors, CONT lets it.
func (h *sandbox) signal(ctx context.Context, name string, a *agent) error {
	_, err := h.shell(ctx, fmt.Sprintf("kill -%s %d", name, a.pid))
	return err
}

// ticks is the resolution of processor time in /proc: a hundredth of a second.
const ticks = 10 * time.Millisecond

// processorTime is what an agent itself has used, without its children.
func (h *sandbox) processorTime(ctx context.Context, a *agent) (time.Duration, error) {
	stat, err := h.shell(ctx, fmt.Sprintf("cat /proc/%d/stat", a.pid))
	if err != nil {
		return 0, err
	}
	// The name stands in brackets and may hold anything; the state comes next.
	_, rest, _ := strings.Cut(stat, ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is %q", a.pid, stat)
	}
	user, e1 := strconv.Atoi(fields[11])
	system, e2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * ticks, errors.Join(e1, e2)
}

// recordMemory records the resident memory of each agent.
func (h *sandbox) recordMemory(ctx context.Context, r *record, agents []*agent, name string) error {
	for _, a := range agents {
		printed, err := h.shell(ctx, fmt.Sprintf("sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\) kB$/\\1/p' /proc/%d/status", a.pid))
		if err != nil {
			return err
		}
		kib, err := strconv.Atoi(strings.TrimSpace(printed))
		if err != nil {
			return fmt.Errorf("the resident memory of %s: %w", a.name, err)
		}
		r.add(name, "MiB", a, float64(kib)/1024)
	}
	return nil
}

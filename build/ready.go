package build

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// readyInterval is how long after a failure readiness is looked for again.
const readyInterval = 500 * time.Millisecond

// probeTimeout bounds one answer to a probe.
const probeTimeout = 10 * time.Second

// ready waits until a template is ready. ended tells how its start command ended,
// if it does; nil where nothing runs.
func (w *worker) ready(ctx context.Context, s Start, ended <-chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	finished := make(chan struct{})
	defer func() {
		cancel()
		<-finished // it writes no log any more
	}()
	check, what := w.check(s)
	log := w.build.log
	log.info("finalize", "Waiting for template to be ready: %s", what)
	result := make(chan error, 1)
	go func() {
		defer close(finished)
		result <- until(ctx, check, func(err error) { log.add("debug", "finalize", fmt.Sprintf("Template is not ready: %v", err)) })
	}()
	for {
		select {
		case err := <-ended:
			if err := errStart(err); err != nil {
				return err
			}
			ended = nil // it ended well: what it has started may still become ready
		case err := <-result:
			if errors.Is(context.Cause(ctx), errOutOfTime) {
				return failf("ready command failed: ready command timed out after %s: %s", w.build.ReadyTimeout, what)
			}
			if err != nil {
				return err
			}
			select {
			case err := <-ended:
				if err := errStart(err); err != nil {
					return err
				}
			default:
			}
			log.info("finalize", "Template is ready")
			return nil
		}
	}
}

// until tries until it succeeds, fails for good, or ctx ends.
func until(ctx context.Context, try func(context.Context) error, tell func(error)) error {
	for {
		err := try(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case isMistake(err):
			return failf("ready command failed: %v", err)
		}
		tell(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readyInterval):
		}
	}
}

// check returns how readiness is looked for, and what that is in words.
func (w *worker) check(s Start) (func(context.Context) error, string) {
	switch {
	case s.Probe != nil:
		target := probeURL(*s.Probe)
		return func(ctx context.Context) error { return w.probe(ctx, *s.Probe, target) }, "GET " + target
	case s.ReadyCmd != "":
		out := newOutput(w.build.log, "debug", "finalize", "ready")
		c := command{shell: s.ReadyCmd, as: stateOf(s.Defaults), out: out, maxOutput: w.build.MaxOutput}
		return func(ctx context.Context) error { return w.runCommand(ctx, c) }, s.ReadyCmd
	}
	wait := w.build.ReadyWait
	return func(ctx context.Context) error {
		select {
		case <-time.After(wait):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, "sleep " + strconv.Itoa(int(wait.Seconds()))
}

func probeURL(p Probe) string {
	u := url.URL{Scheme: "http", Host: "localhost:" + strconv.Itoa(int(p.Port)), Path: "/"}
	if path, query, _ := strings.Cut(p.Path, "?"); path != "" {
		u.Path, u.RawQuery = "/"+strings.TrimPrefix(path, "/"), query
	}
	return u.String()
}

// probe asks once.
func (w *worker) probe(ctx context.Context, p Probe, target string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	transport := agentTransport(w.build.Engine, w.id)
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return w.build.Engine.Dial(ctx, w.id, p.Port)
	}
	resp, err := (&http.Client{Transport: transport, CheckRedirect: noRedirect}).Do(r)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("it answered %d", resp.StatusCode)
	}
	return nil
}

package build

import (
	"context"
	"errors"
	"strings"
	"sync"

	"cube"
)

// finalize makes the template's snapshot: that of the last step, or the memory of
// a sandbox in which what is to run runs.
func (b *build) finalize(ctx context.Context) (Result, error) {
	start, err := b.whatRuns()
	if err != nil {
		return Result{}, err
	}
	result := Result{
		Snapshot: b.snapshot,
		Defaults: b.state.defaults(),
		Base:     Base{Snapshot: b.snapshot, Defaults: b.state.defaults(), Start: start},
	}
	b.log.info("finalize", "[finalize] Finalizing template build")
	if start == nil {
		return result, nil
	}
	w, err := b.start(ctx, b.snapshot, result.Defaults)
	if err != nil {
		return Result{}, err
	}
	defer w.stop()
	if err := w.begin(ctx, *start); err != nil {
		return Result{}, err
	}
	err = w.within(ctx, b.StepTimeout, func(ctx context.Context) error {
		w.trust(ctx, "finalize", "finalize")
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	result.Snapshot, result.Memory, result.HostKey = cube.NewSnapshotID(), true, w.hostKey
	_, err = b.Engine.Checkpoint(ctx, cube.CheckpointRequest{Sandbox: w.id, Snapshot: result.Snapshot, Memory: true})
	if err != nil {
		return Result{}, err
	}
	if ctx.Err() != nil { // nobody wants it any more
		b.discard(result.Snapshot)
		return Result{}, ctx.Err()
	}
	return result, nil
}

// whatRuns returns what is to run in the template's sandboxes, nil for nothing.
func (b *build) whatRuns() (*Start, error) {
	spec := b.spec
	var start *Start
	switch {
	case spec.StartCmd != "" || spec.ReadyCmd != "":
		start = &Start{StartCmd: spec.StartCmd, ReadyCmd: spec.ReadyCmd, Defaults: b.state.defaults()}
	case spec.EntryPoint && b.image != nil:
		var err error
		if start, err = b.entryPoint(); err != nil {
			return nil, err
		}
	case spec.FromTemplate != nil && spec.FromTemplate.Start != nil:
		inherited := *spec.FromTemplate.Start
		start = &inherited
	}
	if spec.Probe != nil {
		if start == nil || !start.runs() {
			return nil, failf("a probe needs something that answers it: give a start command")
		}
		start.Probe = spec.Probe
	}
	return start, nil
}

// runs tells whether something goes on in the sandboxes.
func (s Start) runs() bool { return s.StartCmd != "" || len(s.Argv) > 0 }

// String is what runs, for the log.
func (s Start) String() string {
	if s.StartCmd != "" {
		return s.StartCmd
	}
	return strings.Join(s.Argv, " ")
}

// begin starts what is to run and waits until it is ready. It goes on when begin
// returns, and nobody follows it any more.
func (w *worker) begin(ctx context.Context, s Start) error {
	if !s.runs() {
		return w.within(ctx, w.build.ReadyTimeout, func(ctx context.Context) error { return w.ready(ctx, s, nil) })
	}
	w.build.log.info("finalize", "Running start command: %s", s)
	// Its stream has no deadline: the agent would end it with that, in every
	// sandbox of the template.
	following, unfollow := context.WithCancel(w.over)
	defer unfollow()
	started, ended := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- w.runCommand(following, command{
			shell: s.StartCmd, argv: s.Argv, as: stateOf(s.Defaults),
			out:     newOutput(w.build.log, "info", "finalize", "start"),
			started: func() { once.Do(func() { close(started) }) },
		})
	}()
	defer func() {
		unfollow()
		<-done
	}()
	return w.within(ctx, w.build.ReadyTimeout, func(ctx context.Context) error {
		select {
		case <-started:
		case err := <-ended:
			return errStart(err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		return w.ready(ctx, s, ended)
	})
}

// errStart is a start command that did not do what it should; nil for one that
// ended well, which some do.
func errStart(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[errExit](err); ok {
		return failf("start command failed: error running start command: %s", cut(e.status))
	}
	if isMistake(err) {
		return failf("start command failed: error running start command: command failed: %v", err)
	}
	return err
}

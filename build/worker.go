package build

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cube"
)

const (
	// stopTimeout bounds the end of a sandbox, and of a snapshot that is not
	// needed; stopTries is how often it is tried.
	stopTimeout = time.Minute
	stopTries   = 3
)

// worker is a sandbox in which something is built.
type worker struct {
	build   *build
	id      cube.SandboxID
	hostKey string
	http    *http.Client
	over    context.Context // ends when the sandbox runs no more
	end     context.CancelFunc
	exit    chan cube.Exit // what is known of its end, once
}

// start makes a sandbox that has its settings: processes in it have the defaults
// where nobody says otherwise.
func (b *build) start(ctx context.Context, from cube.SnapshotID, defaults cube.Defaults) (_ *worker, err error) {
	w := &worker{build: b, id: cube.NewSandboxID(), hostKey: rand.Text(), exit: make(chan cube.Exit, 1)}
	w.http = &http.Client{Transport: agentTransport(b.Engine, w.id), CheckRedirect: noRedirect}
	_, err = b.Engine.Start(ctx, cube.StartRequest{ID: w.id, Snapshot: from, Resources: b.spec.Resources, Internet: true})
	if err != nil {
		return nil, err
	}
	w.over, w.end = context.WithCancel(context.WithoutCancel(ctx))
	b.stopping.Go(func() {
		exit, err := b.Engine.Wait(w.over, w.id)
		if err == nil {
			w.exit <- exit
		}
		w.end()
	})
	if err := w.init(ctx, defaults); err != nil {
		defer w.stop()
		return nil, w.explain(ctx, fmt.Errorf("giving the agent its settings: %w", err))
	}
	return w, nil
}

// stop removes the sandbox, in the background.
func (w *worker) stop() {
	w.end()
	w.http.CloseIdleConnections()
	w.build.clean("a build's sandbox is left: it goes when the server starts again", func(ctx context.Context) error {
		return w.build.Engine.Stop(ctx, w.id)
	})
}

// discard removes a snapshot that nobody needs, in the background.
func (b *build) discard(id cube.SnapshotID) {
	b.clean("a build's snapshot is left: it goes when the server starts again", func(ctx context.Context) error {
		return b.Engine.Discard(ctx, id)
	})
}

// clean does what no end of a build interrupts.
func (b *build) clean(left string, do func(context.Context) error) {
	b.stopping.Go(func() {
		var err error
		for range stopTries {
			ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
			err = do(ctx)
			cancel()
			if err == nil {
				return
			}
		}
		b.Log.Error(left, "build", b.id, "error", err)
	})
}

// within does something that needs the sandbox, and ends it with the sandbox and
// after its time.
func (w *worker) within(ctx context.Context, timeout time.Duration, do func(context.Context) error) error {
	timed, cancel := context.WithTimeoutCause(ctx, timeout, errOutOfTime)
	defer cancel()
	defer context.AfterFunc(w.over, cancel)()
	err := do(timed)
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	if err != nil && ctx.Err() == nil && errors.Is(context.Cause(timed), errOutOfTime) {
		return failf("it did not end within %s", timeout)
	}
	return w.explain(ctx, err)
}

var errOutOfTime = errors.New("its time was over")

// explain replaces an error that came of the sandbox's death by that.
func (w *worker) explain(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*Error](err); err == nil || ok || ctx.Err() != nil {
		return err
	}
	select {
	case <-w.over.Done():
	case <-time.After(deathWait): // what died is noticed a moment after its connections
		return err
	}
	select {
	case exit := <-w.exit:
		if exit.OutOfMemory {
			return failf("the sandbox needed more than its %d MiB of memory and was ended: build with more memory", w.build.spec.Resources.MemoryMB)
		}
		return &Error{cube.BuildFailure{Message: "the sandbox of this step died"}, fmt.Errorf("%s: %w", exit.Detail, err)}
	default:
		return err
	}
}

// deathWait is how long after a broken connection a sandbox's death is waited for.
const deathWait = 2 * time.Second

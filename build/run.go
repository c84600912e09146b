package build

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"cube"
	"cube/image"
)

// Engine is what of an engine a build needs: see cube.Engine.
type Engine interface {
	Start(context.Context, cube.StartRequest) (cube.Timings, error)
	Stop(context.Context, cube.SandboxID) error
	Wait(context.Context, cube.SandboxID) (cube.Exit, error)
	Checkpoint(context.Context, cube.CheckpointRequest) (cube.SnapshotInfo, error)
	Discard(context.Context, cube.SnapshotID) error
	Dialer
	// AddImage unpacks an image into a snapshot without memory. On an error nothing
	// of it is left.
	AddImage(context.Context, cube.ImageRequest) (cube.SnapshotInfo, error)
}

// Cache remembers what steps gave. A layer that it has returned or was given
// stays while the build runs that asked.
type Cache interface {
	// Layer returns the snapshot of a key, false if there is none.
	Layer(ctx context.Context, key string) (cube.SnapshotID, bool, error)
	// PutLayer keeps a snapshot under a key, in the place of another. On an error it
	// has not taken it.
	PutLayer(ctx context.Context, key string, id cube.SnapshotID) error
}

// Uploads are the archives that steps of the kind COPY name.
type Uploads interface {
	// Open returns an archive and its size in bytes. Kind: NotFound.
	Open(ctx context.Context, scope, hash string) (io.ReadCloser, int64, error)
}

// PullFunc finds an image in a registry. Its layers are opened when they are needed.
type PullFunc func(ctx context.Context, name string, c *image.Credentials) (image.Image, error)

// Config is what a Runner needs to know.
type Config struct {
	Engine  Engine
	Pull    PullFunc
	Cache   Cache
	Uploads Uploads
	// BaseImage is what is pulled where E2B's own base image is asked for. "" means
	// that the host-made base stands for it.
	BaseImage string
	// HostBase names what the host-made base holds: another name, and what was built
	// over it is built again.
	HostBase string
	// StepTimeout bounds one step; 0 means an hour, as with E2B.
	StepTimeout time.Duration
	// ReadyTimeout bounds how long a template may take to be ready; 0 means ten
	// minutes, as with E2B.
	ReadyTimeout time.Duration
	// ReadyWait is how long a start command without a ready command is given; 0
	// means 20 s, as with E2B.
	ReadyWait time.Duration
	// MaxArchive bounds one upload, and MaxOutput what one command may print, in
	// bytes. 0 means 4 GiB and 256 MiB.
	MaxArchive, MaxOutput int64
	// Log is told what the operator must know; nil means slog's default.
	Log *slog.Logger
}

// Runner runs builds. Its methods may be called concurrently.
type Runner struct{ cfg Config }

// NewRunner returns a runner.
func NewRunner(cfg Config) *Runner {
	cfg.StepTimeout = cmp.Or(cfg.StepTimeout, time.Hour)
	cfg.ReadyTimeout = cmp.Or(cfg.ReadyTimeout, 10*time.Minute)
	cfg.ReadyWait = cmp.Or(cfg.ReadyWait, 20*time.Second)
	cfg.MaxArchive = cmp.Or(cfg.MaxArchive, 4<<30)
	cfg.MaxOutput = cmp.Or(cfg.MaxOutput, 256<<20)
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	return &Runner{cfg}
}

// Run builds a template. log is told each line of the build's log, by one at a
// time, and must not wait. What Run returns was never used before and belongs to
// the caller, but for what Result says of Base. On an error, which is an *Error,
// also when ctx ends, nothing is left but cached layers.
func (r *Runner) Run(ctx context.Context, id string, spec Spec, log func(cube.LogEntry)) (Result, error) {
	begun := time.Now()
	b := &build{Config: r.cfg, id: id, spec: spec, log: &journal{write: log}}
	b.log.info("", "Building template %s/%s", spec.Template, id)
	result, err := b.run(ctx)
	b.stopping.Wait()
	if err != nil {
		failure := asError(ctx, err)
		b.log.add("error", failure.Failure.Step, "Build failed: "+failure.Failure.Message)
		return Result{}, failure
	}
	b.log.info("", "Build finished, took %s", time.Since(begun).Truncate(time.Second))
	return result, nil
}

// build is one build on its way.
type build struct {
	Config
	id       string
	spec     Spec
	log      *journal
	stopping sync.WaitGroup // sandboxes that are being removed

	state    state
	key      string          // of all that was done so far
	snapshot cube.SnapshotID // what was done so far
	cached   bool            // all of it was done before
	image    *image.Image    // that it begins with, nil for none
}

func (b *build) run(ctx context.Context) (Result, error) {
	steps, err := parseSteps(b.spec.Steps)
	if err != nil {
		return Result{}, err
	}
	if err := b.base(ctx); err != nil {
		return Result{}, at("base", err)
	}
	if err := b.steps(ctx, steps); err != nil {
		return Result{}, err
	}
	result, err := b.finalize(ctx)
	return result, at("finalize", err)
}

// steps does those that were not done before.
func (b *build) steps(ctx context.Context, steps []step) error {
	keys := chain(b.key, steps)
	known, err := b.deepest(ctx, steps, keys)
	if err != nil {
		return err
	}
	for i, s := range steps {
		prefix := fmt.Sprintf("builder %d/%d", i+1, len(steps))
		done := i <= known || s.isState() && b.cached && !s.forced && !b.spec.Force
		b.log.info(s.name, "%s[%s] %s [%s]", cachedMark(done), prefix, s, shortKey(keys[i]))
		if b.cached = done; i > known && !s.isState() {
			if err := b.step(ctx, s, prefix, keys[i]); err != nil {
				return at(s.name, err)
			}
		}
		if err := s.change(&b.state); err != nil {
			return at(s.name, err)
		}
		b.key = keys[i]
	}
	return nil
}

func cachedMark(cached bool) string {
	if cached {
		return "CACHED "
	}
	return ""
}

// deepest returns the index of the last step whose layer is known already, with
// which those before it need not be; -1 if there is none.
func (b *build) deepest(ctx context.Context, steps []step, keys []string) (int, error) {
	for i := len(steps) - 1; i >= 0; i-- {
		if steps[i].isState() || steps[i].forced || b.spec.Force {
			continue
		}
		id, ok, err := b.Cache.Layer(ctx, keys[i])
		if err != nil {
			return 0, at(steps[i].name, err)
		}
		if ok {
			b.snapshot = id
			return i, nil
		}
	}
	return -1, nil
}

// step does one in a sandbox of its own, so that nothing is left of the one before
// but its files, and keeps what it wrote.
func (b *build) step(ctx context.Context, s step, prefix, key string) error {
	return b.layer(ctx, key, func(ctx context.Context, w *worker) error {
		return s.do(ctx, b, w, prefix)
	})
}

// layer runs do in a sandbox over what was done so far, and what it wrote is what
// was done so far then.
func (b *build) layer(ctx context.Context, key string, do func(context.Context, *worker) error) error {
	w, err := b.start(ctx, b.snapshot, cube.Defaults{})
	if err != nil {
		return err
	}
	defer w.stop()
	if err := w.within(ctx, b.StepTimeout, func(ctx context.Context) error { return do(ctx, w) }); err != nil {
		return err
	}
	id := cube.NewSnapshotID()
	if _, err := b.Engine.Checkpoint(ctx, cube.CheckpointRequest{Sandbox: w.id, Snapshot: id, Layer: true}); err != nil {
		return err
	}
	if err := b.Cache.PutLayer(ctx, key, id); err != nil {
		b.discard(id)
		return err
	}
	b.snapshot = id
	return nil
}

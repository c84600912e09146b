package app

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"time"

	"cube"
	"cube/build"
	"cube/engine/gvisor"
	"cube/image"
	"cube/lifecycle"
	"cube/store/sqlite"
)

// TemplateSettings are how users' templates are built.
type TemplateSettings struct {
	BaseImage        string        `env:"CUBE_BASE_IMAGE" placeholder:"IMAGE" group:"templates" help:"The image that builds begin with where they ask for E2B's own base image, or for none. Without one it is the base that this server makes of its machine."`
	BuildSlots       int           `env:"CUBE_BUILD_SLOTS" default:"0" placeholder:"N" group:"templates" help:"How many templates are built at once; others wait in a line. 0 for one for every four processors, and one at the least."`
	BuildStepTimeout time.Duration `env:"CUBE_BUILD_STEP_TIMEOUT" default:"1h" group:"templates" help:"How long one step of a build may take."`
	MaxTemplates     int           `env:"CUBE_MAX_TEMPLATES" default:"0" placeholder:"N" group:"templates" help:"How many templates an account may have; 0 for no limit."`
}

// slots is how many builds run at once.
func (s *TemplateSettings) slots() int {
	return cmp.Or(s.BuildSlots, max(1, runtime.NumCPU()/4))
}

// newBuilder makes what runs the steps of builds.
func newBuilder(s Settings, engine *gvisor.Engine, templates *build.Service, registries *image.Registries, log *slog.Logger) *build.Runner {
	return build.NewRunner(build.Config{
		Engine: engine, Pull: registries.Pull, Cache: templates, Uploads: templates,
		BaseImage: s.BaseImage, HostBase: engine.Base(), StepTimeout: s.BuildStepTimeout, Log: log,
	})
}

// newTemplates makes the templates of users. own are the server's.
func newTemplates(s Settings, store *sqlite.Store, own []cube.Template, seen observers, log *slog.Logger) (*build.Service, error) {
	return build.NewService(build.ServiceConfig{
		Store:        store,
		Dir:          s.DataDir,
		Slots:        s.slots(),
		Tenancy:      s.tenancy(),
		Own:          own,
		Resources:    s.Resources(),
		MaxCPUs:      runtime.NumCPU(),
		MaxMemoryMB:  totalMemoryMB(),
		MaxTemplates: s.MaxTemplates,
		Observe:      seen.template,
		Log:          log,
	})
}

func (o observers) template(ctx context.Context, e build.Event) {
	if o.trail != nil {
		o.trail.Template(ctx, e)
	}
	if o.metrics == nil {
		return
	}
	switch e.Kind {
	case build.EventBuilt, build.EventFailed:
		o.metrics.Built(e.Kind == build.EventBuilt, e.Took)
	case build.EventRequested, build.EventChanged, build.EventDeleted:
	}
}

// totalMemoryMB is what the machine has, in MiB; 0 if it does not tell.
func totalMemoryMB() int {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(data) {
		if fields := bytes.Fields(line); len(fields) > 1 && string(fields[0]) == "MemTotal:" {
			kb, _ := strconv.Atoi(string(fields[1])) // the kernel's own number
			return kb >> 10
		}
	}
	return 0
}

// The pool is filled, before anybody has asked, with base and with the templates of
// users that were last asked for, within poolDemand, poolTemplates of them.
const (
	poolDemand    = 24 * time.Hour
	poolTemplates = 4
)

func fillPool(ctx context.Context, templates *build.Service, sandboxes *lifecycle.Sandboxes, log *slog.Logger) {
	sandboxes.FillPool("base")
	recent, err := templates.Recent(ctx, time.Now().Add(-poolDemand), poolTemplates)
	if err != nil {
		log.Warn("which templates were asked for last could not be read: the pool has none of them until they are asked for again", "error", err)
	}
	for _, id := range recent {
		sandboxes.FillPool(string(id))
	}
}

package app

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"os"
	"runtime"
	"strconv"

	"cube"
	"cube/build"
	"cube/store/sqlite"
)

// TemplateSettings are how users' templates are built.
type TemplateSettings struct {
	BuildSlots   int `env:"CUBE_BUILD_SLOTS" default:"0" placeholder:"N" group:"templates" help:"How many templates are built at once; others wait in a line. 0 for one for every four processors, and one at the least."`
	MaxTemplates int `env:"CUBE_MAX_TEMPLATES" default:"0" placeholder:"N" group:"templates" help:"How many templates an account may have; 0 for no limit."`
}

// slots is how many builds run at once.
func (s *TemplateSettings) slots() int {
	return cmp.Or(s.BuildSlots, max(1, runtime.NumCPU()/4))
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

// noBuilder fails builds: a server without the part that does them.
type noBuilder struct{}

func (noBuilder) Run(context.Context, string, build.Spec, func(cube.LogEntry)) (build.Result, error) {
	return build.Result{}, cube.Errorf(cube.Unsupported, "Builds are not supported by this version of Cube API Server")
}

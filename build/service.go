package build

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"cube"
)

// Builder does builds: see Runner.
type Builder interface {
	// Run builds a template. log must not be made to wait. On an error nothing is
	// left but cached layers.
	Run(ctx context.Context, id string, spec Spec, log func(cube.LogEntry)) (Result, error)
}

// Sandboxes is what of the sandboxes a template's end needs to know.
type Sandboxes interface {
	// Uses tells whether sandboxes of a template run, and whether some are paused.
	Uses(cube.TemplateID) (running, paused bool)
	// Forget removes what waits for users of a template.
	Forget(cube.TemplateID)
}

// Discarder removes snapshots: see cube.Engine.
type Discarder interface {
	Discard(context.Context, cube.SnapshotID) error
}

// ServiceConfig is what a Service needs to know.
type ServiceConfig struct {
	Store cube.TemplateStore
	// Dir is where uploads are kept; it is made if it is not there.
	Dir string
	// Slots is how many builds run at once; others wait in a line. 0 means one.
	Slots   int
	Tenancy cube.Tenancy
	// Own are the server's own templates, which others can be built from.
	Own []cube.Template
	// Resources are what a template's sandboxes get, as far as it does not say.
	Resources cube.Resources
	// MaxCPUs and MaxMemoryMB are the most that a template can ask for; 0 means 32,
	// and no bound.
	MaxCPUs, MaxMemoryMB int
	// MaxTemplates is how many an account may have, 0 for no bound.
	MaxTemplates int
	// Grace is how long a snapshot stays after the last that named it, for those who
	// are just starting from it; 0 means two minutes.
	Grace time.Duration
	// Observe is told of what becomes of templates. It may wait. nil means that
	// nobody wants to know.
	Observe func(context.Context, Event)
	Log     *slog.Logger // nil means slog's default
}

// EventKind says what was done to a template.
type EventKind string

// The kinds.
const (
	EventRequested EventKind = "requested" // somebody will build it
	EventBuilt     EventKind = "built"
	EventFailed    EventKind = "failed" // a build of it
	EventChanged   EventKind = "changed"
	EventDeleted   EventKind = "deleted"
)

// Event is what was done to a template, once its row says so. It holds nothing
// that a client wrote but the owner's names.
type Event struct {
	Kind     EventKind
	At       time.Time // UTC
	Template cube.TemplateID
	Build    cube.BuildID // "" if it is of none
	Owner    cube.Owner
	Took     time.Duration // of a build
}

// Service is the templates that users own, and the line of their builds. Its
// methods may be called concurrently; those before Begin read alone.
type Service struct {
	cfg     ServiceConfig
	store   cube.TemplateStore
	log     *slog.Logger
	uploads *uploads

	builder   Builder
	sandboxes Sandboxes
	engine    Discarder

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	naming sync.Mutex // held while a name is given to a template; taken before mu

	mu      sync.Mutex // guards what follows
	open    bool
	count   uint64 // of the jobs that there were
	waiting []*job
	running map[cube.BuildID]*job
	garbage map[cube.SnapshotID]unnamed
	spawns  map[cube.TemplateID]cube.Spawn
}

const (
	// storeTimeout bounds one access to the store that no request's end may interrupt.
	storeTimeout = 10 * time.Second
	// e2bMaxCPUs is E2B's own bound.
	e2bMaxCPUs = 32
)

// NewService returns the templates of a server. Begin comes next, Close last.
func NewService(cfg ServiceConfig) (*Service, error) {
	cfg.Slots = cmp.Or(cfg.Slots, 1)
	cfg.MaxCPUs = cmp.Or(cfg.MaxCPUs, e2bMaxCPUs)
	cfg.Grace = cmp.Or(cfg.Grace, 2*time.Minute)
	cfg.Tenancy = cmp.Or(cfg.Tenancy, cube.TenancyOff)
	files, err := openUploads(filepath.Join(cfg.Dir, "uploads"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Service{
		cfg: cfg, store: cfg.Store, log: cmp.Or(cfg.Log, slog.Default()), uploads: files, ctx: ctx, cancel: cancel,
		running: map[cube.BuildID]*job{}, garbage: map[cube.SnapshotID]unnamed{}, spawns: map[cube.TemplateID]cube.Spawn{},
	}, nil
}

func (s *Service) observe(ctx context.Context, kind EventKind, t cube.UserTemplate, id cube.BuildID, took time.Duration) {
	if s.cfg.Observe != nil {
		s.cfg.Observe(ctx, Event{Kind: kind, At: rowTime(), Template: t.ID, Build: id, Owner: t.Owner, Took: took})
	}
}

// rowTime is the time as rows hold it.
func rowTime() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// bounded is for writes that the end of a request must not interrupt.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
}

// Gauges are numbers of builds of one moment.
type Gauges struct{ Running, Waiting int }

// Gauges returns how many builds there are now.
func (s *Service) Gauges() Gauges {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Gauges{Running: len(s.running), Waiting: len(s.waiting)}
}

// Package lifecycle is the life of sandboxes: create, deadline, pause, resume,
// snapshot, fork, kill, adoption after a restart. It is the only writer of sandbox state. It must never know a
// protocol, and never believe anything that comes out of a sandbox.
//
// A sandbox's row is written before its engine works and again after, so a
// server that dies in between leaves a row that says what to undo. Each step is
// one update of one row, made while the sandbox's own lock is held; whoever
// makes the step to Killing decides how the sandbox ended, and later ends change
// nothing. From then on one goroutine removes it, and tries until it is removed.
//
// What takes the engine longer than a moment (pausing, resuming, keeping,
// removing) is done by one at a time for a sandbox: whoever occupies it.
package lifecycle

import (
	"cmp"
	"context"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cube"
	"cube/quota"
)

// Config is what Sandboxes need to know.
type Config struct {
	Store     cube.Store
	Engine    cube.Engine
	Templates []cube.Template // the server's own, for everybody
	Catalog   Catalog         // those of users; nil for none
	// MaxTimeout is how far ahead of now a deadline may be set. 0 means 24 h.
	MaxTimeout time.Duration
	// PausedRetention is how long a paused sandbox is kept before it ends. 0 means
	// for ever.
	PausedRetention time.Duration
	// StartSlots is how many engine starts run at once; others take turns by
	// account. 0 means two for each processor.
	StartSlots int
	// MaxSandboxes is how many may exist, those that start or end included.
	// 0 means no limit.
	MaxSandboxes int
	// Quota is how much each account may have. nil means that only identities
	// with limits of their own have some.
	Quota *quota.Ledger
	// PoolSize is how many sandboxes of each template wait, running, for whoever
	// comes next, once somebody has asked for one; more under demand. 0 means none.
	PoolSize int
	// FreeMemory is what the machine has left, in bytes; nil if nobody knows. The
	// pool takes no more than there is.
	FreeMemory func() int64
	// NewAuthority makes the certificate authority of a sandbox whose network policy
	// has rules. nil means that there can be none.
	NewAuthority func(cube.SandboxID) ([]byte, error)
	// Tenancy says who sees whose sandboxes. "" means TenancyOff.
	Tenancy cube.Tenancy
	// Observe is called for each thing done to a sandbox, with the context of the
	// request that did it. It may wait, but must not call Sandboxes: the sandbox's
	// own lock is held. nil means that nobody wants to know.
	Observe func(context.Context, Event)
	// Log is told of starts, ends and of what has to be tried again. nil means
	// slog's default.
	Log *slog.Logger
}

const (
	// defaultMaxTimeout is E2B's longest.
	defaultMaxTimeout = 24 * time.Hour
	// storeTimeout bounds one access to the store that no request's end may
	// interrupt: half a step is worse than a late one.
	storeTimeout = 10 * time.Second
	// maxWaiting bounds the creates that wait for their start, and maxOfAccount
	// those of one account. Each keeps a connection and a place, and in a longer
	// line most would wait for createTimeout and nothing else.
	maxWaiting   = 8192
	maxOfAccount = 2048
)

// Sandboxes is all sandboxes of one server. Its methods may be called
// concurrently.
type Sandboxes struct {
	store        cube.Store
	engine       cube.Engine
	catalog      Catalog
	maxTimeout   time.Duration
	retention    time.Duration // of paused ones, 0 for ever
	maxSandboxes int
	quota        *quota.Ledger
	newAuthority func(cube.SandboxID) ([]byte, error)
	tenancy      cube.Tenancy
	observer     func(context.Context, Event)
	log          *slog.Logger

	pool       *pool
	freeMemory func() int64
	foreground atomic.Int32 // creates at work

	starts *quota.Queue  // a slot for each start at work
	stops  chan struct{} // holds one for each stop at work
	sooner chan struct{} // tells the scheduler that a deadline was set

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu        sync.Mutex // guards what follows; taken after a live's own
	closed    bool
	wg        sync.WaitGroup // every goroutine; grows only while not closed
	live      map[cube.SandboxID]*live
	templates map[string]cube.Template // by id and by alias
	count     int                      // sandboxes that have their places: paused ones have none
	creating  map[string]chan struct{} // by idempotency key, closed when decided

	naming sync.Mutex // held while a snapshot takes a name; taken before all others
}

// live is a sandbox from the moment when it first runs until nothing of it is
// left; before, only its creator knows it.
type live struct {
	id       cube.SandboxID
	owner    cube.Owner
	template cube.TemplateID
	// accessToken opens the agent, trafficToken the other ports; "" for open ones.
	accessToken, trafficToken string
	ingress                   cube.Ingress

	occupied chan struct{} // holds one while somebody is at work on it: see occupy
	gone     chan struct{} // closed when nothing of it is left

	// run is closed when it stops running; each resume makes another.
	run atomic.Pointer[chan struct{}]
	// awake is whether its state is Running.
	awake atomic.Bool
	// deadline is what the scheduler goes by, without waiting for mu: Unix
	// milliseconds, 0 for none or for one that it has seen pass. That of a paused
	// one is the end of its retention.
	deadline atomic.Int64

	counted bool // it has its places: see reserve; guarded by Sandboxes.mu

	mu        sync.Mutex // guards what follows; held over the store's writes, which keeps their order
	sandbox   cube.Sandbox
	interrupt context.CancelFunc // ends the engine's work on it, nil for none
	refused   int64              // bytes of the snapshot for which its account had no room last
}

// New returns the sandboxes of a server. Recover comes next, Close last.
func New(cfg Config) *Sandboxes {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sandboxes{
		store:        cfg.Store,
		engine:       cfg.Engine,
		catalog:      cfg.Catalog,
		templates:    map[string]cube.Template{},
		maxTimeout:   cmp.Or(cfg.MaxTimeout, defaultMaxTimeout),
		retention:    cfg.PausedRetention,
		maxSandboxes: cfg.MaxSandboxes,
		newAuthority: cfg.NewAuthority,
		quota:        cmp.Or(cfg.Quota, quota.NewLedger(cube.Limits{})),
		tenancy:      cmp.Or(cfg.Tenancy, cube.TenancyOff),
		observer:     cfg.Observe,
		log:          cmp.Or(cfg.Log, slog.Default()),
		starts:       quota.NewQueue(cmp.Or(cfg.StartSlots, 2*runtime.NumCPU()), maxWaiting, maxOfAccount),
		stops:        make(chan struct{}, stopSlots),
		sooner:       make(chan struct{}, 1),
		ctx:          ctx,
		cancel:       cancel,
		live:         map[cube.SandboxID]*live{},
		creating:     map[string]chan struct{}{},
	}
	for _, t := range cfg.Templates {
		for _, name := range slices.Concat(t.Aliases, []string{string(t.ID)}) {
			s.templates[name] = t
		}
	}
	s.pool, s.freeMemory = newPool(cfg.PoolSize, s.dropSpare), cfg.FreeMemory
	s.spawn(s.watchDeadlines)
	if cfg.PoolSize > 0 {
		s.spawn(s.fillPool)
	}
	s.spawn(s.deleteOld)
	return s
}

// Close ends all that runs here and waits for it. Sandboxes stay as they are,
// for the next server to adopt; what was not finished is finished by its
// Recover. Calls that come later are Unavailable.
func (s *Sandboxes) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	s.drainPool()
}

// spawn runs f in a goroutine that Close waits for; not at all once closed,
// when whatever f would do is left to the next server.
func (s *Sandboxes) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Go(f)
	}
}

func errStopping() error {
	return cube.Errorf(cube.Unavailable, "The server is stopping: try again in a moment")
}

func newLive(sandbox cube.Sandbox) *live {
	l := &live{
		id:           sandbox.ID,
		owner:        sandbox.Owner,
		template:     sandbox.Template,
		accessToken:  sandbox.AccessToken,
		trafficToken: sandbox.TrafficToken,
		ingress:      sandbox.Ingress,
		occupied:     make(chan struct{}, 1),
		gone:         make(chan struct{}),
		sandbox:      sandbox,
	}
	l.begin()
	l.awake.Store(sandbox.State == cube.Running)
	return l
}

// begin makes a new run; l.mu is held, or nobody else knows it.
func (l *live) begin() {
	run := make(chan struct{})
	l.run.Store(&run)
}

// over returns a channel that is closed when the sandbox stops running.
func (l *live) over() <-chan struct{} { return *l.run.Load() }

// halt ends the run; l.mu is held.
func (l *live) halt() {
	l.deadline.Store(0)
	if run := *l.run.Load(); !isClosed(run) {
		close(run)
	}
}

// tend has a running sandbox end at its deadline, or when it dies; l.mu is held.
func (s *Sandboxes) tend(l *live) {
	s.setDeadline(l)
	run := l.over()
	s.spawn(func() { s.watch(l, run) })
}

// add makes a sandbox known to all.
func (s *Sandboxes) add(l *live) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[l.id] = l
}

// find returns a sandbox that runs, is paused or is being removed, nil if there
// is none.
func (s *Sandboxes) find(id cube.SandboxID) *live {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[id]
}

// forget is the last that happens to a sandbox here.
func (s *Sandboxes) forget(l *live) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, l.id)
	s.uncount(l)
	s.quota.Unkeep(l.id)
}

// uncount gives back a sandbox's places, if it has them; s.mu is held.
func (s *Sandboxes) uncount(l *live) {
	if l.counted {
		l.counted = false
		s.count--
		s.quota.Release(l.id)
	}
}

// save replaces a sandbox's row and then what is known of it; l.mu is held. It
// is the only place that writes a state after the first, and refuses steps that
// the table of transitions does not have.
func (s *Sandboxes) save(l *live, next cube.Sandbox) error {
	from := l.sandbox.State
	if next.State != from && !from.CanBecome(next.State) {
		return cube.Errorf(cube.Conflict, "Sandbox %s cannot become %s: it is %s", l.id, next.State, from)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := s.store.UpdateSandbox(ctx, from, next); err != nil {
		return err
	}
	l.sandbox = next
	l.awake.Store(next.State == cube.Running)
	return nil
}

// now is the time as rows hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// Package lifecycle is the life of sandboxes: create, deadline, kill, adoption
// after a restart. It is the only writer of sandbox state. It must never know a
// protocol, and never believe anything that comes out of a sandbox.
//
// A sandbox's row is written before its engine works and again after, so a
// server that dies in between leaves a row that says what to undo. Each step is
// one update of one row, made while the sandbox's own lock is held; whoever
// makes the step to Killing decides how the sandbox ended, and later ends change
// nothing. From then on one goroutine removes it, and tries until it is removed.
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
	Templates []cube.Template
	// MaxTimeout is how far ahead of now a deadline may be set. 0 means 24 h.
	MaxTimeout time.Duration
	// StartSlots is how many engine starts run at once; others take turns by
	// account. 0 means two for each processor.
	StartSlots int
	// MaxSandboxes is how many may exist, those that start or end included.
	// 0 means no limit.
	MaxSandboxes int
	// Quota is how much each account may have. nil means that only identities
	// with limits of their own have some.
	Quota *quota.Ledger
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
	templates    map[string]cube.Template // by id and by alias
	maxTimeout   time.Duration
	maxSandboxes int
	quota        *quota.Ledger
	tenancy      cube.Tenancy
	observer     func(context.Context, Event)
	log          *slog.Logger

	starts *quota.Queue  // a slot for each start at work
	stops  chan struct{} // holds one for each stop at work
	sooner chan struct{} // tells the scheduler that a deadline was set

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu       sync.Mutex // guards what follows; taken after a live's own
	closed   bool
	wg       sync.WaitGroup // every goroutine; grows only while not closed
	live     map[cube.SandboxID]*live
	count    int                      // rows that are not Gone
	creating map[string]chan struct{} // by idempotency key, closed when decided
}

// live is a sandbox from the moment when it runs until nothing of it is left;
// before, only its creator knows it.
type live struct {
	id    cube.SandboxID
	owner cube.Owner
	// trafficToken opens the ports that are not the agent's; "" for open ones.
	trafficToken string

	done chan struct{} // closed when it is decided to end
	gone chan struct{} // closed when nothing of it is left

	// deadline is what the scheduler goes by, without waiting for mu: Unix
	// milliseconds, 0 for none or for one that it has seen pass.
	deadline atomic.Int64

	mu      sync.Mutex // guards what follows; held over the store's writes, which keeps their order
	sandbox cube.Sandbox
}

// New returns the sandboxes of a server. Recover comes next, Close last.
func New(cfg Config) *Sandboxes {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sandboxes{
		store:        cfg.Store,
		engine:       cfg.Engine,
		templates:    map[string]cube.Template{},
		maxTimeout:   cmp.Or(cfg.MaxTimeout, defaultMaxTimeout),
		maxSandboxes: cfg.MaxSandboxes,
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
	s.spawn(s.watchDeadlines)
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
	return &live{
		id:           sandbox.ID,
		owner:        sandbox.Owner,
		trafficToken: sandbox.TrafficToken,
		done:         make(chan struct{}),
		gone:         make(chan struct{}),
		sandbox:      sandbox,
	}
}

// tend has a running sandbox end at its deadline, or when it dies; l.mu is held.
func (s *Sandboxes) tend(l *live) {
	s.setDeadline(l)
	s.spawn(func() { s.watch(l) })
}

// add makes a sandbox known to all.
func (s *Sandboxes) add(l *live) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[l.id] = l
}

// find returns a sandbox that runs or is being removed, nil if there is none.
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
	s.count--
	s.quota.Release(l.id)
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
	return nil
}

// now is the time as rows hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

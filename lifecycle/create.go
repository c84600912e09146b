package lifecycle

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"cube"
)

// CreateRequest is what a new sandbox shall be.
type CreateRequest struct {
	// Template is an id or an alias of a template, alone or with a tag, or an id or
	// a name of a snapshot of the caller's.
	Template string
	// Timeout is the time from when it runs to its deadline, more than 0.
	Timeout time.Duration
	// Secure closes the agent to all who do not have the access token.
	Secure bool
	// Private closes the ports that are not the agent's to all who do not have
	// the traffic token. It needs Secure: E2B's rule, and the agent would lend
	// its hands otherwise.
	Private bool
	// Internet is whether it may reach addresses outside.
	Internet bool
	// Network is what else it may reach, in the form of network/policy.
	Network  cube.NetworkPolicy
	Ingress  cube.Ingress
	Metadata map[string]string
	EnvVars  map[string]string // of every process that the agent starts, besides a snapshot's
	// Expiry says what becomes of it at its deadline; Expiry.Timeout is not read.
	Expiry cube.Expiry
	// Idempotency makes the request repeatable; see Create.
	Idempotency *Idempotency

	caller cube.Identity // set by Create
}

// Created is a sandbox that runs.
type Created struct {
	Sandbox  cube.Sandbox
	Timings  cube.Timings
	Replayed bool // an earlier request with the same key made it; no Timings
}

const (
	// createTimeout bounds a create or a resume, its wait for a slot included. E2B's SDKs
	// give up after as long.
	createTimeout = 60 * time.Second
)

// Create makes a sandbox and returns once its agent answers and has its
// settings. When it fails, also because ctx ended, what exists of the sandbox is
// undone; if its start had begun, its row says why for as long as rows of ended
// sandboxes are kept.
//
// With an idempotency key, the same key and body return the same sandbox, after
// waiting for it if it is being made; another body is a Conflict. Such a create
// does not end with ctx: the client that went away will ask again. A create that
// failed gives its key free. A key whose sandbox has ended is a Conflict that
// says so, until the row is deleted: a repeated request must neither get a dead
// sandbox nor, unasked, a second one.
//
// It belongs to the owner that ctx's identity names. Under tenancy its agent is
// always secured: else whoever learns the id could use it. It counts for that
// identity's account until nothing of it is left.
//
// Kinds: NotFound (template), Invalid (timeout, or limits that the machine
// cannot give), Forbidden (no tenant, or a template that is not for this
// caller), Conflict (key), Exhausted (too many sandboxes, or over the account's
// quota), Unsupported (the snapshot is of another version or processor), Timeout,
// Unavailable, Internal.
func (s *Sandboxes) Create(ctx context.Context, req CreateRequest) (Created, error) {
	owner, _, err := s.owner(ctx)
	if err != nil {
		return Created{}, err
	}
	req.caller = cube.IdentityFrom(ctx)
	req.Secure = req.Secure || s.tenancy != cube.TenancyOff
	if req.Idempotency != nil {
		req.Idempotency = &Idempotency{Key: s.keyOf(owner, req.Idempotency.Key), BodyHash: req.Idempotency.BodyHash}
		return s.createOnce(ctx, req)
	}
	return s.create(ctx, req)
}

func (s *Sandboxes) create(ctx context.Context, req CreateRequest) (Created, error) {
	from, err := s.originOf(ctx, req.Template)
	if err != nil {
		return Created{}, err
	}
	if req.Private && !req.Secure {
		return Created{}, cube.Errorf(cube.Invalid, "You cannot create a sandbox without public access unless you enable secure envd access via 'secure' flag.")
	}
	if req.Timeout <= 0 {
		return Created{}, cube.Errorf(cube.Invalid, "Timeout must be greater than 0")
	}
	if err := s.CheckTimeout(req.Timeout); err != nil {
		return Created{}, err
	}
	s.foreground.Add(1)
	defer s.foreground.Add(-1)
	created, err := s.make(ctx, req, from)
	if err == nil && s.catalog != nil {
		s.catalog.Spawned(from.template)
	}
	return created, err
}

// make takes a sandbox from the pool, or starts one.
func (s *Sandboxes) make(ctx context.Context, req CreateRequest, from origin) (Created, error) {
	sandbox := newSandbox(req, from)
	var err error
	if sandbox.Network, err = s.authorised(sandbox.ID, sandbox.Network); err != nil {
		return Created{}, err
	}
	if created, done, err := s.claim(ctx, req, sandbox, from); done {
		return created, err
	}
	return s.launch(ctx, req.caller, sandbox, from, req.Idempotency)
}

// launch starts a new sandbox; its time to live begins when it runs.
func (s *Sandboxes) launch(ctx context.Context, caller cube.Identity, sandbox cube.Sandbox, from origin, key *Idempotency) (Created, error) {
	l := newLive(sandbox)
	if err := s.reserve(caller, l); err != nil {
		return Created{}, err
	}
	// From here on the sandbox has its places, and the end of ctx must not keep
	// the undoing from being done.
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	unhook := context.AfterFunc(s.ctx, cancel)
	defer unhook()

	queue, err := s.takeTurn(ctx, sandbox, key)
	if err != nil {
		s.forget(l)
		return Created{}, err
	}
	timings, err := s.start(ctx, sandbox, from)
	if err == nil {
		sandbox, err = s.begin(ctx, l)
	}
	if err != nil {
		err = explain(ctx, s.ctx, err)
		s.undo(ctx, l, err)
		return Created{}, err
	}
	timings.Queue += queue
	s.log.Info("sandbox started", "sandbox", l.id, "template", sandbox.Template,
		"queue", timings.Queue, "root", timings.Root, "network", timings.Network, "boot", timings.Boot, "agent", timings.Agent)
	return Created{Sandbox: sandbox, Timings: timings}, nil
}

// reserve takes a new sandbox's places, among MaxSandboxes and in its account;
// forget gives them back.
func (s *Sandboxes) reserve(caller cube.Identity, l *live) error {
	return s.admit(l, func() error { return s.quota.Reserve(caller, l.id, l.sandbox.Resources) })
}

// admit takes a sandbox's places, if its account's can be had.
func (s *Sandboxes) admit(l *live, account func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errStopping()
	}
	if s.maxSandboxes > 0 && s.count >= s.maxSandboxes {
		return cube.Errorf(cube.Exhausted, "This server runs at most %d sandboxes at once: kill or pause one, or try again when one has reached its deadline", s.maxSandboxes)
	}
	if err := account(); err != nil {
		return err
	}
	s.count++
	l.counted = true
	if s.maxSandboxes > 0 {
		s.pool.shrink(s.maxSandboxes - s.count)
	}
	return nil
}

func newSandbox(req CreateRequest, from origin) cube.Sandbox {
	started := now()
	sandbox := cube.Sandbox{
		ID:        cube.NewSandboxID(),
		Template:  from.template,
		Alias:     from.alias,
		State:     cube.Starting,
		StartedAt: started,
		EndAt:     started.Add(req.Timeout),
		Resources: from.resources,
		Metadata:  req.Metadata,
		HostKey:   rand.Text(),
		Internet:  req.Internet,
		Network:   req.Network,
		Ingress:   req.Ingress,
		Owner:     req.caller.Owner(),
		Account:   req.caller.Account(),
		EnvVars:   from.with(req.EnvVars),
		User:      from.user,
		Workdir:   from.workdir,
		Expiry:    req.Expiry,
	}
	sandbox.Expiry.Timeout = req.Timeout
	if req.Secure {
		sandbox.AccessToken = rand.Text()
	}
	if req.Private {
		sandbox.TrafficToken = rand.Text()
	}
	return sandbox
}

// takeTurn waits until the sandbox may start, which it tells how long it took,
// and writes its row. Who gets no turn leaves no row. Without an error a slot of
// starts is taken, which start gives back.
func (s *Sandboxes) takeTurn(ctx context.Context, sandbox cube.Sandbox, key *Idempotency) (time.Duration, error) {
	begun := time.Now()
	if err := s.starts.Acquire(ctx, sandbox.Account); err != nil {
		return 0, explain(ctx, s.ctx, err)
	}
	queue := time.Since(begun)
	if err := s.insert(ctx, sandbox, key); err != nil {
		s.starts.Release()
		return 0, err
	}
	return queue, nil
}

// insert writes the first row, wholly or not at all, whatever becomes of the
// request meanwhile.
func (s *Sandboxes) insert(ctx context.Context, sandbox cube.Sandbox, key *Idempotency) error {
	if err := ctx.Err(); err != nil {
		return explain(ctx, s.ctx, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return s.store.CreateSandbox(ctx, sandbox, key)
}

// start has the engine start the sandbox, whose turn it is, and gives the agent
// its settings.
func (s *Sandboxes) start(ctx context.Context, sandbox cube.Sandbox, from origin) (cube.Timings, error) {
	timings, err := func() (cube.Timings, error) {
		defer s.starts.Release()
		request := cube.StartRequest{
			ID:        sandbox.ID,
			Snapshot:  from.snapshot,
			Resources: sandbox.Resources,
		}
		request.Internet, request.Network = sandbox.Reach()
		timings, err := s.engine.Start(ctx, request)
		if err != nil && cube.KindOf(err) == cube.Exhausted && s.emptyPool() {
			return s.engine.Start(ctx, request)
		}
		return timings, err
	}()
	if err != nil {
		return cube.Timings{}, err
	}
	begun := time.Now()
	if err := initAgent(ctx, s.engine, sandbox, from.hostKey); err != nil {
		// Whatever kind it is of, to the user it is a fault of ours.
		return cube.Timings{}, cube.WrapError(cube.Internal, err, "initialising the agent")
	}
	timings.Agent += time.Since(begun)
	return timings, nil
}

// begin makes a started sandbox a running one. Its time begins now: what it
// waited for its start is not the user's loss.
func (s *Sandboxes) begin(ctx context.Context, l *live) (cube.Sandbox, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.add(l) // before the row: once it is listed it can be killed
	next := l.sandbox
	next.State = cube.Running
	next.EndAt = now().Add(next.Expiry.Timeout)
	if err := s.save(l, next); err != nil {
		return cube.Sandbox{}, err
	}
	s.tend(l)
	s.observe(ctx, EventCreated, next)
	return next, nil
}

// undo ends a sandbox that did not start, and keeps trying if the store fails.
func (s *Sandboxes) undo(ctx context.Context, l *live, why error) {
	end := cube.End{Reason: cube.EndFailed, At: now()}
	if e, ok := errors.AsType[*cube.Error](why); ok {
		end.Detail = e.Message
	}
	if _, err := s.end(ctx, l, end); err != nil {
		s.spawn(func() { s.endSurely(ctx, l, end) })
	}
}

// explain turns the failure of a start into an error that helps who asked. An
// engine's own sentence is kept where the user can act on it.
func explain(create, server context.Context, err error) error {
	switch {
	case server.Err() != nil:
		return errStopping()
	case errors.Is(create.Err(), context.DeadlineExceeded):
		return cube.WrapError(cube.Timeout, err, "The sandbox did not start in time, as the machine is busy: try again, or run fewer sandboxes at once")
	case create.Err() != nil:
		return cube.WrapError(cube.Unavailable, err, "The request ended before the sandbox had started; nothing of it is left")
	}
	switch cube.KindOf(err) {
	case cube.Invalid, cube.NotFound, cube.Exhausted, cube.Unsupported, cube.Unavailable, cube.Timeout:
		return err
	}
	return cube.WrapError(cube.Internal, err, "The sandbox could not be started: try again; if it stays so, the operator finds the cause in the server's log")
}

// Package app puts the server together from its settings: what is opened in
// which order, how a request finds its way, how it all ends. It is the one
// place that knows every part, and it decides nothing that a part decides.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cube"
	"cube/api"
	"cube/audit"
	"cube/auth"
	"cube/auth/keys"
	"cube/build"
	"cube/engine/gvisor"
	"cube/gateway"
	"cube/history"
	"cube/image"
	"cube/internal/requestid"
	"cube/lifecycle"
	"cube/network/gate"
	"cube/network/journal"
	"cube/quota"
	"cube/store/sqlite"
	"cube/telemetry"
)

const (
	// stopTimeout is how long requests may take to end after the server was told
	// to stop, and tracesTimeout how long the collector may take then.
	stopTimeout   = 15 * time.Second
	tracesTimeout = 5 * time.Second
	// lockTimeout is how long to wait for a server that was just killed: its lock
	// lasts until the last process that it was starting has let go of it.
	lockTimeout = 2 * time.Second
)

// Run serves until ctx ends, then lets requests end and returns; sandboxes go
// on. At SIGHUP the settings are reread.
func Run(ctx context.Context, s Settings, reread Reread, log *slog.Logger) (err error) {
	closing := func(what string, close func() error) {
		if e := close(); e != nil {
			err = errors.Join(err, fmt.Errorf("closing %s: %w", what, e))
		}
	}
	unlock, err := lockDataDir(s.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	raiseFileLimit(log)

	store, err := sqlite.Open(ctx, filepath.Join(s.DataDir, "cube.db"))
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer closing("the database", store.Close)

	away := newOutward()
	defer away.journal.Close()
	network6 := s.network6(log)
	out, err := openGate(s, network6, away.event)
	if err != nil {
		return err
	}
	defer closing("the gate", out.Close)
	quotas := quota.NewLedger(s.limits())
	engine, err := gvisor.New(gvisor.Config{DataDir: s.DataDir, Network: s.SandboxNetwork, Network6: network6, Gate: out, Limits: s.linkLimits(), SnapshotKeys: s.SnapshotKeyFile, PackAfter: s.SnapshotPackAfter, Packed: quotas.Resize, FreeMemory: freeMemory, Spares: s.Spares, Log: log})
	if err != nil {
		return fmt.Errorf("this machine cannot run sandboxes ('cube-api doctor' tells more): %w", err)
	}
	defer closing("the engine", engine.Close)

	var trail *audit.Log // nil: nothing is written down
	if s.Audit {
		if trail, err = audit.Open(audit.Config{Dir: audit.Dir(s.DataDir), Log: log}); err != nil {
			return err
		}
		defer closing("the audit log", trail.Close)
	}

	traces, err := telemetry.NewTraces(ctx, log)
	if err != nil {
		return err
	}
	defer closing("traces", func() error {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesTimeout)
		defer cancel()
		return traces.Close(last)
	})
	operators, err := listenForOperators(ctx, s, log)
	if err != nil {
		return err
	}
	seen := observers{trail: trail}
	if operators != nil {
		seen.metrics = operators.metrics
		defer func() { _ = operators.listener.Close() }() // again, once it served
	}

	own, err := ownKeys(ctx, store, s)
	if err != nil {
		return err
	}
	door, err := newDoor(s, own, seen, log)
	if err != nil {
		return err
	}
	defer door.Close()

	ofServer := []cube.Template{{ID: "base", Aliases: []string{"base"}, Snapshot: cube.BaseSnapshot, Resources: s.Resources()}}
	templates, err := newTemplates(s, store, ofServer, seen, log)
	if err != nil {
		return err
	}
	config := lifecycle.Config{
		Store:           store,
		Engine:          engine,
		Templates:       ofServer,
		Catalog:         templates,
		MaxTimeout:      s.MaxTimeout,
		PausedRetention: s.PausedRetention,
		MaxSandboxes:    s.MaxSandboxes,
		PoolSize:        s.PoolSize,
		FreeMemory:      freeMemory,
		NewAuthority:    gate.NewAuthority,
		Tenancy:         s.tenancy(),
		Quota:           quotas,
		Observe:         seen.lifecycle,
		Log:             log,
	}
	sandboxes := lifecycle.New(config)
	defer sandboxes.Close()
	away.begin(seen, sandboxes)
	if err := sandboxes.Recover(ctx); err != nil {
		return fmt.Errorf("taking over the sandboxes of the last run: %w", err)
	}
	registries, err := image.NewRegistries(s.registries())
	if err != nil {
		return err
	}
	defer registries.Close()
	if err := templates.Begin(ctx, newBuilder(s, engine, templates, registries, log), sandboxes, engine); err != nil {
		return fmt.Errorf("taking over the templates of the last run: %w", err)
	}
	defer templates.Close()
	fillPool(ctx, templates, sandboxes, log)

	listener, err := net.Listen("tcp", s.Bind)
	if err != nil {
		return fmt.Errorf("listening on %s (is another server there? choose another with --bind): %w", s.Bind, err)
	}
	secure, names, err := s.openDomain(ctx, log)
	if err != nil {
		_ = listener.Close()
		return err
	}
	defer names()
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	announce(ctx, log, s, listener.Addr(), own)
	if operators != nil {
		operators.door, operators.sandboxes, operators.templates, operators.store, operators.trail, operators.engine = door, sandboxes, templates, store, trail, engine
		defer operators.serve(log)()
	}
	var beside sync.WaitGroup
	reloading, stop := context.WithCancel(ctx)
	recorder := history.New(history.Config{Sandboxes: sandboxes, Store: store, Log: log})
	beside.Go(func() { recorder.Run(reloading) })
	beside.Go(func() { reloadOnHangup(reloading, s, reread, door, seen, quotas, log) })
	defer beside.Wait()
	defer stop()
	return serve(ctx, newServer(handler(s, door, own, trail, traces, sandboxes, templates, recorder, away.journal, log), log), listener)
}

// handler is the way of a request: an id, then into a sandbox or through the
// door to the API.
func handler(s Settings, door *auth.Door, own *keys.Keys, trail *audit.Log, traces *telemetry.Traces, sandboxes *lifecycle.Sandboxes, templates *build.Service, recorder *history.Recorder, away *journal.Journal, log *slog.Logger) http.Handler {
	traffic := gateway.Config{Sandboxes: sandboxes, Domain: s.Domain, Log: log}
	if trail != nil {
		traffic.Observe = trail.Inside
	}
	intoSandboxes := gateway.New(traffic)
	stripped := traces.Wrap(telemetry.RouteSandbox, door.Strip(intoSandboxes))
	config := api.Config{Sandboxes: sandboxes, Templates: templates, Domain: s.Domain, History: recorder, Journal: away, Log: log}
	if own != nil { // a nil *keys.Keys in it would be no nil
		config.Keys = own
	}
	control := traces.Wrap(telemetry.RouteAPI, door.Wrap(api.New(config)))
	uploads := api.Uploads{Templates: templates}
	return requestid.Middleware(audit.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if intoSandboxes.Takes(r) {
			stripped.ServeHTTP(w, r)
			return
		}
		if uploads.Takes(r) {
			uploads.ServeHTTP(w, r)
			return
		}
		control.ServeHTTP(w, r)
	})))
}

func newServer(h http.Handler, log *slog.Logger) *http.Server {
	server := &http.Server{
		Handler:   h,
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what clients do wrong
		Protocols: new(http.Protocols),
		// E2B's proxies keep idle connections a little longer than ten
		// minutes; shorter, and its SDKs meet connections that just closed.
		IdleTimeout: 620 * time.Second,
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	auth.ConfigureServer(server)
	return server
}

// serve returns when ctx has ended and requests have too, or were cut off.
func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	var failure error // of Serve, once ended
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failure = server.Serve(listener)
	}()
	select {
	case <-ended:
		return fmt.Errorf("serving: %w", failure)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close() // streams into sandboxes can last for hours
	}
	<-ended
	return err
}

// ownKeys returns the keys of this server, nil where a callback decides.
func ownKeys(ctx context.Context, store *sqlite.Store, s Settings) (*keys.Keys, error) {
	if s.AuthCallbackURL != "" {
		return nil, nil
	}
	rows, err := store.APIKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	own := keys.New(keys.Config{Store: rows, Tenancy: s.tenancy()})
	inUse, err := own.InUse(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	switch {
	case inUse:
	case s.AuthRequired:
		return nil, errors.New("--auth-required is set and nobody is there to ask: write --auth-callback-url, or make a key with 'cube-api keys create NAME'")
	case s.tenancy() != cube.TenancyOff:
		return nil, errors.New("--auth-tenancy is set and nobody says who asks: write --auth-callback-url, or make a key with 'cube-api keys create NAME --team=TEAM --subject=SUBJECT'")
	}
	return own, nil
}

// newDoor makes the door. own is nil where a callback decides.
func newDoor(s Settings, own *keys.Keys, seen observers, log *slog.Logger) (*auth.Door, error) {
	key, err := fingerprintKey(s.DataDir)
	if err != nil {
		return nil, err
	}
	config := auth.Config{Rules: s.rules(seen.asked()), Tenancy: s.tenancy(), FingerprintKey: key, Observe: seen.decision, Log: log}
	if own != nil { // a nil *keys.Keys in it would be no nil
		config.Keys = own
	}
	return auth.New(config)
}

// announce says where the server is and, loudly, what is open.
func announce(ctx context.Context, log *slog.Logger, s Settings, addr net.Addr, own *keys.Keys) {
	log.Info("Cube API Server is ready", "url", s.url(addr), "data", s.DataDir)
	if s.AdminBind != "" && exposed(s.AdminBind) {
		log.Warn("the operators' listener asks nobody who they are, and others than this machine can reach it: see that only operators do", "address", s.AdminBind)
	}
	if own == nil {
		return
	}
	inUse, err := own.InUse(ctx)
	switch {
	case inUse || err != nil:
	case exposed(s.Bind):
		log.Warn("EVERYBODY who can reach this address may create and kill sandboxes: set --auth-callback-url, make a key with 'cube-api keys create NAME', or bind to 127.0.0.1", "address", addr.String())
	default:
		log.Info("every request is allowed, from this machine alone; --auth-callback-url lets your service decide, 'cube-api keys create NAME' your keys")
	}
}

// lockDataDir makes sure that no second server works on the directory. The
// kernel gives the lock back when the process ends, however it ends.
func lockDataDir(dir string) (unlock func(), err error) {
	// Others may pass through to what a sandbox's processes need, which run as
	// nobody, and list nothing.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("making the data directory (choose another with --data-dir): %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	for last := time.Now().Add(lockTimeout); ; time.Sleep(lockTimeout / 100) {
		if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil || time.Now().After(last) {
			break
		}
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("another server works on the data directory %s: stop it, or choose another with --data-dir", dir)
	}
	return func() { _ = file.Close() }, nil
}

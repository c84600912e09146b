package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"cube/admin"
	"cube/audit"
	"cube/auth"
	"cube/auth/cache"
	"cube/auth/callback"
	"cube/auth/decision"
	"cube/build"
	"cube/engine/gvisor"
	"cube/lifecycle"
	"cube/store/sqlite"
	"cube/telemetry"
)

// observers are told of what the server does. A nil one is not.
type observers struct {
	trail   *audit.Log
	metrics *telemetry.Metrics
}

func (o observers) decision(outcome decision.Outcome) {
	if o.trail != nil {
		o.trail.Decision(outcome)
	}
	if o.metrics != nil {
		o.metrics.Decided(outcome)
	}
}

// asked is nil where nobody counts.
func (o observers) asked() func(time.Duration, string) {
	if o.metrics == nil {
		return nil
	}
	return o.metrics.Asked
}

func (o observers) lifecycle(ctx context.Context, e lifecycle.Event) {
	if o.trail != nil {
		o.trail.Lifecycle(ctx, e)
	}
	if o.metrics == nil {
		return
	}
	switch e.Kind {
	case lifecycle.EventCreated:
		o.metrics.Created()
	case lifecycle.EventEnded:
		o.metrics.Ended(e.Reason)
	}
}

// operators is the listener of --admin-bind, and what it shows.
type operators struct {
	server   *http.Server
	listener net.Listener
	metrics  *telemetry.Metrics

	// Set before serve.
	door      *auth.Door
	sandboxes *lifecycle.Sandboxes
	templates *build.Service
	store     *sqlite.Store
	trail     *audit.Log
	engine    *gvisor.Engine
}

// headerTimeout and answerTimeout bound a request of an operator.
const (
	headerTimeout = 10 * time.Second
	answerTimeout = time.Minute
	readyTimeout  = 5 * time.Second
)

// listenForOperators opens the listener, and returns nil if there shall be none.
func listenForOperators(ctx context.Context, s Settings, log *slog.Logger) (*operators, error) {
	if s.AdminBind == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", s.AdminBind)
	if err != nil {
		return nil, fmt.Errorf("listening on %s (choose another with --admin-bind): %w", s.AdminBind, err)
	}
	o := &operators{listener: listener}
	o.metrics = telemetry.NewMetrics(telemetry.Sources{
		Callback:  func() *callback.Stats { return o.door.Stats().Callback },
		Cache:     func() *cache.Stats { return o.door.Stats().Cache },
		Shadow:    o.shadow,
		Sandboxes: func() lifecycle.Gauges { return o.sandboxes.Gauges() },
		Builds:    func() build.Gauges { return o.templates.Gauges() },
		Audit:     o.audit,
		Packed:    o.packed,
		Traffic:   o.traffic,
	})
	o.server = &http.Server{
		Handler: admin.Handler(admin.Config{
			Metrics: o.metrics.Handler(),
			Purge:   func() { o.door.Purge(); log.Info("remembered decisions are forgotten: an operator asked for it") },
			Ready:   func(asked context.Context) error { return o.ready(ctx, asked) },
			Log:     log,
		}),
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      answerTimeout,
	}
	return o, nil
}

func (o *operators) shadow() map[telemetry.Shadow]uint64 {
	counts := o.door.Stats().Shadow
	if counts == nil {
		return nil
	}
	words := map[telemetry.Shadow]uint64{}
	for result, n := range *counts {
		words[telemetry.Shadow(result)] = n
	}
	return words
}

func (o *operators) packed() *telemetry.Packed {
	s := o.engine.Packed()
	return &telemetry.Packed{Content: s.Plain, Unique: s.Unique, Disk: s.Disk}
}

func (o *operators) traffic() *telemetry.Traffic {
	all, err := o.engine.Traffic()
	if err != nil { // the next who asks has it
		return nil
	}
	return new(telemetry.Traffic(all))
}

func (o *operators) audit() *audit.Stats {
	if o.trail == nil {
		return nil
	}
	return new(o.trail.Stats())
}

// ready tells a load balancer whether to send requests here: not while the server
// ends, nor while its rows cannot be read.
func (o *operators) ready(running, asked context.Context) error {
	if running.Err() != nil {
		return errors.New("the server is told to stop")
	}
	asked, cancel := context.WithTimeout(asked, readyTimeout)
	defer cancel()
	if err := o.store.Readable(asked); err != nil {
		return fmt.Errorf("reading the database: %w", err)
	}
	return nil
}

// serve answers operators until the returned function is called.
func (o *operators) serve(log *slog.Logger) (stop func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := o.server.Serve(o.listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the operators' listener ended", "error", err)
		}
	}()
	log.Info("operators are answered", "url", "http://"+o.listener.Addr().String())
	return func() {
		_ = o.server.Close() // nothing that an operator asks for is worth waiting for
		<-ended
	}
}

// Package api is the control plane: it turns requests of E2B's SDKs into calls
// of package lifecycle, and their results into answers. It translates and never
// decides; who may ask was decided before, at the door.
package api

import (
	"log/slog"
	"net/http"
	"time"

	"cube"
	"cube/build"
	"cube/history"
	"cube/internal/httperror"
	"cube/internal/requestid"
	"cube/lifecycle"
	"cube/network/journal"
)

// Config is what the API needs.
type Config struct {
	Sandboxes *lifecycle.Sandboxes
	Templates *build.Service // those that users own
	// Domain is that of the sandboxes' host names, "" for none.
	Domain string
	// Keys are the server's own keys; nil where they are not asked, as the
	// operator's service decides.
	Keys Keys
	// History is of what sandboxes used and printed.
	History *history.Recorder
	// Journal is of where sandboxes went; nil for none.
	Journal *journal.Journal
	Log     *slog.Logger
}

// api has a method for each operation.
type api struct {
	sandboxes *lifecycle.Sandboxes
	templates *build.Service
	domain    string
	keys      Keys
	history   *history.Recorder
	journal   *journal.Journal
	log       *slog.Logger
	started   time.Time // since when the server's own templates are there
}

// New returns the handler of the whole surface.
func New(c Config) http.Handler {
	a := &api{sandboxes: c.Sandboxes, templates: c.Templates, domain: c.Domain, keys: c.Keys, history: c.History, journal: c.Journal, log: c.Log, started: roughly(time.Now())}
	return a.routes()
}

// operation answers a request, or returns why it cannot.
type operation func(w http.ResponseWriter, r *http.Request) error

// serve makes a handler of an operation: the one place where errors are logged
// and written.
func (a *api) serve(op operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := op(w, r)
		if err == nil {
			return
		}
		a.logFailure(r, err)
		// Also to a client that seems to be gone: it may have closed its half
		// alone, and would take silence for success.
		httperror.Write(w, err)
	}
}

// logFailure logs what an operator should know of.
func (a *api) logFailure(r *http.Request, err error) {
	kind := cube.KindOf(err)
	if r.Context().Err() == nil && (kind == cube.Internal || kind == cube.Unavailable || kind == cube.Timeout) {
		a.log.Error("a request failed", "request", requestid.From(r.Context()), "method", r.Method, "route", r.Pattern, "error", err)
	}
}

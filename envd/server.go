// Package envd is the agent inside each sandbox: it starts processes, moves
// files, and tells how the sandbox is, in the protocol of E2B's SDKs (Connect
// and plain HTTP, on port 49983).
//
// It is the first process of the sandbox and its one way in. It must never
// answer before /init has set who may ask, never let code inside change that,
// and never hold a file in memory. It imports nothing of the server.
package envd

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"sync"

	"connectrpc.com/connect"

	"cube/envd/filesystem"
	"cube/envd/gen/filesystem/filesystemconnect"
	"cube/envd/gen/process/processconnect"
	"cube/envd/logs"
	"cube/envd/process"
)

// Port is where the agent listens.
const Port = 49983

// maxMessage bounds one message of the RPC services and one JSON body, in
// bytes. File content goes over /files, which has no bound but the disk's.
const maxMessage = 16 << 20

// Agent is the whole agent as one handler.
type Agent struct {
	settings  settings
	processes *process.Service
	files     *filesystem.Service
	logs      *logs.Log
	metrics   metrics
	machine   machine
	// settling is held while the machine becomes what /init said, which takes
	// longer than the answer to it: whoever uses the machine waits for it.
	settling sync.RWMutex
	log      *slog.Logger
	handler  http.Handler
}

// New makes an agent that waits for /init.
func New(log *slog.Logger) *Agent {
	a := &Agent{log: log, logs: logs.New()}
	a.processes = process.NewService(process.Config{User: a.requestUser, Environment: a.environment, Resolve: a.settings.resolve, Logs: a.logs})
	a.files = filesystem.NewService(filesystem.Config{User: a.requestUser, Resolve: a.settings.resolve})

	mux := http.NewServeMux()
	limit := connect.WithReadMaxBytes(maxMessage)
	mux.Handle(processconnect.NewProcessHandler(a.processes, limit))
	mux.Handle(filesystemconnect.NewFilesystemHandler(a.files, limit))
	mux.HandleFunc("GET /health", a.health)
	mux.HandleFunc("POST /init", a.init)
	mux.HandleFunc("GET /envs", a.envs)
	mux.HandleFunc("GET /metrics", a.serveMetrics)
	mux.HandleFunc("GET /record", a.serveRecord)
	mux.HandleFunc("GET /files", a.download)
	mux.HandleFunc("POST /files", a.upload)
	mux.HandleFunc("POST /files/compose", a.compose)
	a.buildSteps(mux)
	a.handler = withCORS(a.authorize(mux))
	return a
}

// OwnMachine lets /init change the machine around the agent: name is what gives
// it another hostname. It is for the first process of a sandbox, before Serve.
func (a *Agent) OwnMachine(name func(string) error) { a.machine = machine{root: "/", name: name} }

// ServeHTTP serves one request.
func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Close kills every process that was started, ends every watch, and waits for
// the machine to settle.
func (a *Agent) Close() {
	a.processes.Close()
	a.files.Close()
	a.settling.Lock()
	defer a.settling.Unlock()
}

// authorize lets a request through that may be asked now.
func (a *Agent) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/health":
		case r.URL.Path == "/init", r.URL.Path == "/record", isBuild(r.URL.Path): // they have a key of their own
		case !a.settings.isInitialised():
			writeError(w, http.StatusServiceUnavailable, "not initialised")
			return
		case r.URL.Path == "/files": // may be signed instead: see authorizeFile
		default:
			token, set := a.settings.token()
			if set && !equal(r.Header.Get(accessTokenHeader), token) {
				writeError(w, http.StatusUnauthorized, "unauthorized access, please provide a valid access token or method signing if supported")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// accessTokenHeader carries the sandbox's access token.
const accessTokenHeader = "X-Access-Token"

// hostKeyHeader carries the server's own key. Its proxy lets none through.
const hostKeyHeader = "X-Host-Key"

func (a *Agent) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

func (a *Agent) init(w http.ResponseWriter, r *http.Request) {
	var request initRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessage)).Decode(&request); err != nil {
		writeError(w, http.StatusBadRequest, "the body must be a JSON object: "+err.Error())
		return
	}
	a.settling.Lock()
	if err := a.settings.mayApply(r.Header.Get(hostKeyHeader)); err != nil {
		a.settling.Unlock()
		writeError(w, http.StatusUnauthorized, err.Error())
		return
	}
	if err := a.machine.trust(request.CABundle); err != nil {
		a.settling.Unlock()
		a.log.Error("the certificates were not added", "error", err)
		writeError(w, http.StatusInternalServerError, "the certificates could not be added to those that are trusted: "+err.Error())
		return
	}
	if a.settings.isInitialised() && !request.KeepStreams { // and now resumed: whoever followed is gone
		a.processes.CutStreams()
	}
	if !a.settings.isFor(request.SandboxID) {
		a.logs.Reset() // what is in it belongs to the one that this was
	}
	request.EnvVars = over(a.machine.trusting(request.CABundle), request.EnvVars)
	a.settings.apply(request)
	go func() {
		defer a.settling.Unlock()
		a.machine.follow(request)
	}()
	w.WriteHeader(http.StatusNoContent)
}

// over returns variables with others in the place of those of the same name.
func over(below, above map[string]string) map[string]string {
	if below == nil {
		return above
	}
	maps.Copy(below, above)
	return below
}

// environment is that of every process, which finds the machine settled.
func (a *Agent) environment() map[string]string {
	a.settling.RLock()
	defer a.settling.RUnlock()
	return a.settings.environment()
}

func (a *Agent) envs(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.settings.environment())
}

// withCORS lets pages of any origin ask: the token decides, not the origin.
func withCORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "*")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "*")
			h.Set("Access-Control-Allow-Headers", "*, Authorization") // the wildcard leaves it out: fetch standard
			h.Set("Access-Control-Max-Age", "7200")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the other side went away: no error of ours
}

// writeError answers in E2B's format.
func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]any{"code": status, "message": message})
}

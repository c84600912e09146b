package api

import (
	"net/http"
	"strings"

	"cube"
)

// routes is the whole surface.
func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, op := range map[string]operation{
		"GET /health":       a.health,
		"GET /openapi.yaml": a.document,

		"POST /sandboxes":    a.createSandbox,
		"POST /v2/sandboxes": a.createSandboxV2,
		"GET /sandboxes":     a.listRunningSandboxes,
		"GET /v2/sandboxes":  a.listSandboxes,

		"GET /sandboxes/{sandboxID}":             a.getSandbox,
		"DELETE /sandboxes/{sandboxID}":          a.killSandbox,
		"POST /sandboxes/{sandboxID}/connect":    a.connectSandbox,
		"POST /v2/sandboxes/{sandboxID}/connect": a.connectSandboxV2,
		"POST /sandboxes/{sandboxID}/timeout":    a.setSandboxTimeout,
		"POST /sandboxes/{sandboxID}/refreshes":  a.refreshSandbox,
		"POST /sandboxes/{sandboxID}/pause":      unsupported("Pausing sandboxes"),
		"POST /sandboxes/{sandboxID}/resume":     unsupported("Resuming sandboxes"),
		"POST /sandboxes/{sandboxID}/fork":       unsupported("Forking sandboxes"),
		"POST /sandboxes/{sandboxID}/snapshots":  unsupported("Snapshots"),
		"PUT /sandboxes/{sandboxID}/network":     unsupported("Changing a sandbox's network rules"),
		"GET /sandboxes/{sandboxID}/metrics":     unsupported("The history of a sandbox's metrics"),
		"GET /sandboxes/{sandboxID}/logs":        unsupported("Sandbox logs"),
		"GET /v2/sandboxes/{sandboxID}/logs":     unsupported("Sandbox logs"),
		"GET /sandboxes/metrics":                 unsupported("Metrics of several sandboxes"),
		"GET /snapshots":                         unsupported("Snapshots"),
		"/templates":                             unsupported("Managing templates"),
		"/templates/{rest...}":                   unsupported("Managing templates"),
		"/v2/templates":                          unsupported("Managing templates"),
		"/v2/templates/{rest...}":                unsupported("Managing templates"),
		"/v3/templates":                          unsupported("Managing templates"),
		"/volumes":                               unsupported("Volumes"),
		"/volumes/{rest...}":                     unsupported("Volumes"),
		"/volumecontent/{rest...}":               unsupported("Volumes"),
		"/secrets":                               unsupported("Secrets"),
		"/secrets/{rest...}":                     unsupported("Secrets"),
		"/teams":                                 unsupported("Teams"),
		"/teams/{rest...}":                       unsupported("Teams"),
		"/api-keys":                              unsupported("Managing API keys"),
		"/api-keys/{rest...}":                    unsupported("Managing API keys"),
		"/access-tokens":                         unsupported("Access tokens"),
		"/access-tokens/{rest...}":               unsupported("Access tokens"),
		"/nodes":                                 unsupported("Nodes"),
		"/nodes/{rest...}":                       unsupported("Nodes"),
		"/events/{rest...}":                      unsupported("Lifecycle events and webhooks"),
	} {
		mux.Handle(pattern, a.serve(op))
	}
	return a.withErrors(mux)
}

// unsupported names what is not built: a 501 and not a 404, so that a user knows
// that the fault is not in their request.
func unsupported(feature string) operation {
	return func(http.ResponseWriter, *http.Request) error {
		return cube.Errorf(cube.Unsupported, "%s is not supported by this version of Cube API Server", feature)
	}
}

// withErrors answers in E2B's format where the mux would answer in its own: an
// unknown path, or a method that a path does not have.
func (a *api) withErrors(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		var allowed []string
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			probe := r.Clone(r.Context())
			probe.Method = method
			if _, pattern := mux.Handler(probe); pattern != "" {
				allowed = append(allowed, method)
			}
		}
		a.serve(func(w http.ResponseWriter, r *http.Request) error {
			if len(allowed) == 0 {
				return cube.Errorf(cube.NotFound, "There is nothing at this path: /openapi.yaml lists what there is")
			}
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			return errMethod(allowed)
		})(w, r)
	})
}

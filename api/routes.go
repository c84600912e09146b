package api

import (
	"net/http"
	"strings"

	"cube"
	"cube/internal/httperror"
)

// operations is what is served; openapi.yaml describes the same.
func (a *api) operations() map[string]operation {
	return map[string]operation{
		"GET /health":                                         a.health,
		"GET /openapi.yaml":                                   a.document,
		"POST /sandboxes":                                     a.createSandbox,
		"POST /v2/sandboxes":                                  a.createSandboxV2,
		"GET /sandboxes":                                      a.listRunningSandboxes,
		"GET /v2/sandboxes":                                   a.listSandboxes,
		"GET /sandboxes/{sandboxID}":                          a.getSandbox,
		"DELETE /sandboxes/{sandboxID}":                       a.killSandbox,
		"POST /sandboxes/{sandboxID}/connect":                 a.connectSandbox,
		"POST /v2/sandboxes/{sandboxID}/connect":              a.connectSandboxV2,
		"POST /sandboxes/{sandboxID}/pause":                   a.pauseSandbox,
		"POST /sandboxes/{sandboxID}/resume":                  a.resumeSandbox,
		"POST /sandboxes/{sandboxID}/fork":                    a.forkSandbox,
		"POST /sandboxes/{sandboxID}/snapshots":               a.createSnapshot,
		"GET /snapshots":                                      a.listSnapshots,
		"POST /sandboxes/{sandboxID}/timeout":                 a.setSandboxTimeout,
		"PUT /sandboxes/{sandboxID}/network":                  a.setSandboxNetwork,
		"POST /sandboxes/{sandboxID}/refreshes":               a.refreshSandbox,
		"GET /sandboxes/metrics":                              a.listMetrics,
		"GET /sandboxes/{sandboxID}/metrics":                  a.getMetrics,
		"GET /sandboxes/{sandboxID}/logs":                     a.getLogs,
		"GET /v2/sandboxes/{sandboxID}/logs":                  a.getLogsV2,
		"GET /teams":                                          a.listTeams,
		"GET /teams/{teamID}/metrics":                         a.getTeamMetrics,
		"GET /teams/{teamID}/metrics/max":                     a.getTeamMetricsMax,
		"GET /templates":                                      a.listTemplates,
		"GET /v2/templates":                                   a.listTemplatesV2,
		"POST /templates":                                     a.createTemplate,
		"POST /v2/templates":                                  a.createTemplateV2,
		"POST /v3/templates":                                  a.createTemplateV3,
		"GET /templates/{templateID}":                         a.getTemplate,
		"POST /templates/{templateID}":                        a.rebuildTemplate,
		"PATCH /templates/{templateID}":                       a.updateTemplate,
		"PATCH /v2/templates/{templateID}":                    a.updateTemplate,
		"DELETE /templates/{templateID}":                      a.deleteTemplate,
		"GET /templates/aliases/{alias}":                      a.getTemplateAlias,
		"GET /templates/{templateID}/tags":                    a.listTemplateTags,
		"POST /templates/tags":                                a.assignTags,
		"DELETE /templates/tags":                              a.deleteTags,
		"GET /templates/{templateID}/files/{hash}":            a.getUpload,
		"POST /templates/{templateID}/builds/{buildID}":       a.startBuild,
		"POST /v2/templates/{templateID}/builds/{buildID}":    a.startBuildV2,
		"GET /templates/{templateID}/builds/{buildID}/status": a.getBuildStatus,
		"GET /templates/{templateID}/builds/{buildID}/logs":   a.getBuildLogs,
		"GET /api-keys":                                       a.listAPIKeys,
		"POST /api-keys":                                      a.createAPIKey,
		"PATCH /api-keys/{apiKeyID}":                          a.renameAPIKey,
		"DELETE /api-keys/{apiKeyID}":                         a.revokeAPIKey,
		"GET /sandboxes/{sandboxID}/network/log":              a.getNetworkLog,
	}
}

// unsupportedRoutes are those of E2B's that are not built, with the name of the
// feature.
var unsupportedRoutes = map[string]string{
	"/volumes":                 "Volumes",
	"/volumes/{rest...}":       "Volumes",
	"/volumecontent":           "Volumes",
	"/volumecontent/{rest...}": "Volumes",
	"/secrets":                 "Secrets",
	"/secrets/{rest...}":       "Secrets",
	"/access-tokens":           "Access tokens",
	"/access-tokens/{rest...}": "Access tokens",
	"/nodes":                   "Nodes",
	"/nodes/{rest...}":         "Nodes",
	"/events":                  "Lifecycle events and webhooks",
	"/events/{rest...}":        "Lifecycle events and webhooks",
}

// ofTemplates are two patterns that the mux cannot tell apart for one path, an
// alias named "tags": templatePart does.
var ofTemplates = map[string]bool{"GET /templates/aliases/{alias}": true, "GET /templates/{templateID}/tags": true}

// templatePart serves both: the alias wins.
func (a *api) templatePart(w http.ResponseWriter, r *http.Request) error {
	switch part := r.PathValue("part"); {
	case r.PathValue("templateID") == "aliases":
		r.SetPathValue("alias", part)
		return a.getTemplateAlias(w, r)
	case part == "tags":
		return a.listTemplateTags(w, r)
	}
	return errNothingHere()
}

// routes is the whole surface.
func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, op := range a.operations() {
		if !ofTemplates[pattern] {
			mux.Handle(pattern, a.serve(op))
		}
	}
	mux.Handle("GET /templates/{templateID}/{part}", a.serve(a.templatePart))
	for pattern, feature := range unsupportedRoutes {
		mux.Handle(pattern, a.serve(unsupported(feature)))
	}
	return withErrors(mux)
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
func withErrors(mux *http.ServeMux) http.Handler {
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
		if len(allowed) == 0 {
			httperror.Write(w, errNothingHere())
			return
		}
		methods := strings.Join(allowed, ", ")
		w.Header().Set("Allow", methods)
		httperror.WriteStatus(w, http.StatusMethodNotAllowed, "This path has no such method: it has "+methods)
	})
}

func errNothingHere() error {
	return cube.Errorf(cube.NotFound, "There is nothing at this path: /openapi.yaml lists what there is")
}

package api

import (
	"net/http"
	"net/url"
	"strings"

	"cube"
	"cube/api/gen"
	"cube/internal/requestid"
)

const (
	// envdVersion is the version of E2B's agent that ours is compatible with:
	// the SDKs choose by it what they ask for.
	envdVersion = "0.6.13"
	// clientID is a part of the protocol that nobody uses any more.
	clientID = "cube"
)

// sandboxID reads the id from the path. What is no id of ours is not found. Old
// clients write the client's id behind it.
func sandboxID(r *http.Request) (cube.SandboxID, error) {
	return cube.ParseSandboxID(strings.TrimSuffix(r.PathValue("sandboxID"), "-"+clientID))
}

// sandboxQuery reads the id from the path, and the query.
func sandboxQuery(r *http.Request) (cube.SandboxID, url.Values, error) {
	id, err := sandboxID(r)
	if err != nil {
		return "", nil, err
	}
	query, err := parseQuery(r)
	return id, query, err
}

// GET /sandboxes/{sandboxID}
func (a *api) getSandbox(w http.ResponseWriter, r *http.Request) error {
	id, err := sandboxID(r)
	if err != nil {
		return err
	}
	s, err := a.sandboxes.Get(r.Context(), id)
	if err != nil {
		return err
	}
	listed := listedSandbox(s)
	return writeJSON(w, http.StatusOK, gen.SandboxDetail{
		TemplateID: listed.TemplateID, SandboxID: listed.SandboxID, ClientID: listed.ClientID, Alias: listed.Alias,
		StartedAt: listed.StartedAt, EndAt: listed.EndAt, CpuCount: listed.CpuCount, MemoryMB: listed.MemoryMB,
		DiskSizeMB: listed.DiskSizeMB, Metadata: listed.Metadata, State: listed.State, EnvdVersion: listed.EnvdVersion,
		EnvdAccessToken:     optional(s.AccessToken),
		Domain:              optional(a.domain),
		AllowInternetAccess: s.Internet,
		Network:             networkOf(s),
		Lifecycle:           lifecycleOf(s.Expiry),
	})
}

// DELETE /sandboxes/{sandboxID}
func (a *api) killSandbox(w http.ResponseWriter, r *http.Request) error {
	id, err := sandboxID(r)
	if err != nil {
		return err
	}
	if err := a.sandboxes.Kill(r.Context(), id, requestid.From(r.Context())); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// sandbox is what create and connect answer with.
func (a *api) sandbox(s cube.Sandbox) gen.Sandbox {
	return gen.Sandbox{
		TemplateID:      string(s.Template),
		SandboxID:       string(s.ID),
		ClientID:        clientID,
		Alias:           optional(s.Alias),
		EnvdVersion:     envdVersion,
		EnvdAccessToken: optional(s.AccessToken),
		Domain:          optional(a.domain),

		TrafficAccessToken: optional(s.TrafficToken),
	}
}

func listedSandbox(s cube.Sandbox) gen.ListedSandbox {
	listed := gen.ListedSandbox{
		TemplateID:  string(s.Template),
		SandboxID:   string(s.ID),
		ClientID:    clientID,
		Alias:       optional(s.Alias),
		StartedAt:   s.StartedAt,
		EndAt:       s.EndAt,
		CpuCount:    s.Resources.CPUs,
		MemoryMB:    s.Resources.MemoryMB,
		DiskSizeMB:  s.Resources.DiskMB,
		State:       gen.Paused, // also of one that is becoming so, or running again
		EnvdVersion: envdVersion,
	}
	if s.State == cube.Running {
		listed.State = gen.Running
	}
	if len(s.Metadata) > 0 {
		metadata := gen.StringMap(s.Metadata)
		listed.Metadata = &metadata
	}
	return listed
}

func lifecycleOf(x cube.Expiry) gen.SandboxLifecycle {
	l := gen.SandboxLifecycle{AutoResume: x.Resume, OnTimeout: gen.Kill}
	if x.Pause {
		l.OnTimeout = gen.Pause
	}
	return l
}

// optional is nil for "".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

package api

import (
	"net/http"

	"cube"
	"cube/api/gen"
)

// POST /sandboxes/{sandboxID}/connect
func (a *api) connectSandbox(w http.ResponseWriter, r *http.Request) error {
	return a.connect(w, r, nil)
}

// POST /v2/sandboxes/{sandboxID}/connect
func (a *api) connectSandboxV2(w http.ResponseWriter, r *http.Request) error {
	timeout := createV2.defaultTimeout
	return a.connect(w, r, &timeout)
}

// connect takes the timeout for a body that has none; nil where it must be given.
func (a *api) connect(w http.ResponseWriter, r *http.Request, timeout *int64) error {
	var body gen.ConnectSandbox
	unknown, err := decodeBody(w, r, &body, []string{"timeout", "memory"}, timeout != nil)
	if err != nil {
		return err
	}
	if body.Timeout != nil {
		timeout = body.Timeout
	}
	if timeout == nil {
		return cube.Errorf(cube.Invalid, "validation error: timeout is missing: write the seconds that the sandbox shall live from now")
	}
	if *timeout < 0 {
		return cube.Errorf(cube.Invalid, "Timeout must not be negative")
	}
	// What is wrong with the request comes before whether there is the sandbox.
	if err := a.sandboxes.CheckTimeout(seconds(*timeout)); err != nil {
		return err
	}
	id, err := sandboxID(r)
	if err != nil {
		return err
	}
	s, resumed, err := a.sandboxes.Connect(r.Context(), id, seconds(*timeout), body.Memory == nil || *body.Memory)
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	status := http.StatusOK
	if resumed {
		status = http.StatusCreated
	}
	return writeJSON(w, status, a.sandbox(s))
}

// POST /sandboxes/{sandboxID}/timeout
func (a *api) setSandboxTimeout(w http.ResponseWriter, r *http.Request) error {
	id, err := sandboxID(r)
	if err != nil {
		return err
	}
	var body struct { // gen.SandboxTimeout cannot tell 0 from nothing
		Timeout *int64 `json:"timeout"`
	}
	unknown, err := decodeBody(w, r, &body, []string{"timeout"}, false)
	if err != nil {
		return err
	}
	if body.Timeout == nil {
		return cube.Errorf(cube.Invalid, "validation error: timeout is missing: write the seconds that the sandbox shall live from now")
	}
	if err := a.sandboxes.SetTimeout(r.Context(), id, seconds(*body.Timeout)); err != nil {
		return err
	}
	warnUnknown(w, unknown)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// The seconds that a refresh gives: when it names none or few, and at most.
const (
	minRefresh = 15
	maxRefresh = 3600
)

// POST /sandboxes/{sandboxID}/refreshes
func (a *api) refreshSandbox(w http.ResponseWriter, r *http.Request) error {
	id, err := sandboxID(r)
	if err != nil {
		return err
	}
	var body gen.SandboxRefresh
	unknown, err := decodeBody(w, r, &body, []string{"duration"}, true)
	if err != nil {
		return err
	}
	duration := int64(minRefresh)
	if body.Duration != nil {
		if *body.Duration < 0 || *body.Duration > maxRefresh {
			return cube.Errorf(cube.Invalid, "validation error: duration must be 0 to %d seconds", maxRefresh)
		}
		duration = max(duration, *body.Duration)
	}
	if _, err := a.sandboxes.Extend(r.Context(), id, seconds(duration)); err != nil {
		return err
	}
	warnUnknown(w, unknown)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

package api

import (
	"net/http"

	"cube"
	"cube/api/gen"
	"cube/internal/httperror"
)

// POST /sandboxes/{sandboxID}/pause
func (a *api) pauseSandbox(w http.ResponseWriter, r *http.Request) error {
	id, err := sandboxID(r)
	if err != nil {
		return err
	}
	var body gen.PauseSandbox
	unknown, err := decodeBody(w, r, &body, []string{"memory"}, true)
	if err != nil {
		return err
	}
	if err := a.sandboxes.Pause(r.Context(), id, body.Memory == nil || *body.Memory); err != nil {
		return err
	}
	warnUnknown(w, unknown)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// POST /sandboxes/{sandboxID}/resume
func (a *api) resumeSandbox(w http.ResponseWriter, r *http.Request) error {
	id, err := sandboxID(r)
	if err != nil {
		return err
	}
	var body gen.ResumedSandbox
	unknown, err := decodeBody(w, r, &body, []string{"timeout", "autoPause", "memory"}, true)
	if err != nil {
		return err
	}
	timeout, err := timeoutOf(body.Timeout)
	if err != nil {
		return err
	}
	s, err := a.sandboxes.Resume(r.Context(), id, seconds(timeout), body.AutoPause, body.Memory == nil || *body.Memory)
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	return writeJSON(w, http.StatusCreated, a.sandbox(s))
}

// timeoutOf is a new sandbox's timeout in seconds, where the first version's
// default holds.
func timeoutOf(given *int64) (int64, error) {
	if given == nil {
		return createV1.defaultTimeout, nil
	}
	if *given <= 0 {
		return 0, cube.Errorf(cube.Invalid, "Timeout must be greater than 0")
	}
	return *given, nil
}

// POST /sandboxes/{sandboxID}/fork
func (a *api) forkSandbox(w http.ResponseWriter, r *http.Request) error {
	id, err := sandboxID(r)
	if err != nil {
		return err
	}
	var body gen.ForkSandbox
	unknown, err := decodeBody(w, r, &body, []string{"count", "timeout"}, true)
	if err != nil {
		return err
	}
	timeout, err := timeoutOf(body.Timeout)
	if err != nil {
		return err
	}
	count := int64(1)
	if body.Count != nil {
		count = min(*body.Count, 1<<30) // an int on every machine
	}
	children, err := a.sandboxes.Fork(r.Context(), id, int(count), seconds(timeout))
	if err != nil {
		return err
	}
	results := make([]gen.SandboxForkResult, len(children))
	for i, child := range children {
		if child.Err != nil {
			code, message := httperror.Describe(child.Err)
			results[i].Error = &gen.Error{Code: int32(code), Message: message}
			a.logFailure(r, child.Err)
			continue
		}
		sandbox := a.sandbox(child.Sandbox)
		results[i].Sandbox = &sandbox
	}
	warnUnknown(w, unknown)
	return writeJSON(w, http.StatusCreated, results)
}

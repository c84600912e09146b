package api

import (
	_ "embed"
	"encoding/json"
	"net/http"

	"cube/api/gen"
)

//go:embed openapi.yaml
var document []byte

// GET /openapi.yaml
func (a *api) document(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(document)
	return nil
}

// GET /health
//
// CubeSandbox's clients read "status", E2B's own tests look for the sentence.
// Who may ask without a credential learns nothing more.
func (a *api) health(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, gen.Health{Status: gen.Ok, Message: "Health check successful"})
}

// writeJSON writes an answer. Answers may hold an access token.
func writeJSON(w http.ResponseWriter, status int, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // a client that went away is no error of ours
	return nil
}

package envd

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"cube/envd/build"
)

// buildPrefix begins the paths of a template's build, which only the server asks.
const buildPrefix = "/build/"

// buildRequest is the body of those that carry no archive; each reads what it
// needs.
type buildRequest struct {
	Name string `json:"name"` // of an account
	Sudo bool   `json:"sudo"` // it may become root without a password
	Path string `json:"path"` // absolute
	User string `json:"user"` // whose the directory is
}

// buildResult is the answer to all of them.
type buildResult struct {
	Entries int `json:"entries,omitempty"` // that were copied
}

// buildSteps registers what a template's build asks for.
func (a *Agent) buildSteps(mux *http.ServeMux) {
	mux.HandleFunc("POST "+buildPrefix+"provision", a.buildStep(func(buildRequest) (buildResult, error) {
		program, err := os.Executable()
		if err != nil {
			return buildResult{}, err
		}
		return buildResult{}, build.Provision("/", program)
	}))
	mux.HandleFunc("POST "+buildPrefix+"user", a.buildStep(func(r buildRequest) (buildResult, error) {
		return buildResult{}, build.User("/", r.Name, r.Sudo)
	}))
	mux.HandleFunc("POST "+buildPrefix+"workdir", a.buildStep(func(r buildRequest) (buildResult, error) {
		return buildResult{}, build.MakeWorkdir(r.Path, r.User)
	}))
	mux.HandleFunc("POST "+buildPrefix+"copy", a.forServer(a.buildCopy))
}

// forServer lets a request through that has the server's key, which the server's
// proxy lets nobody bring.
func (a *Agent) forServer(next func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !a.settings.isServer(r.Header.Get(hostKeyHeader)) {
			writeError(w, http.StatusUnauthorized, "only the server may ask for this")
			return
		}
		a.settling.RLock() // the machine is what the settings say
		defer a.settling.RUnlock()
		if err := next(w, r); err != nil {
			status := http.StatusInternalServerError
			if _, ok := errors.AsType[*build.Error](err); ok {
				status = http.StatusBadRequest
			}
			writeError(w, status, err.Error())
		}
	}
}

func (a *Agent) buildStep(do func(buildRequest) (buildResult, error)) http.HandlerFunc {
	return a.forServer(func(w http.ResponseWriter, r *http.Request) error {
		var request buildRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessage)).Decode(&request); err != nil {
			return err
		}
		result, err := do(request)
		if err == nil {
			writeJSON(w, http.StatusOK, result)
		}
		return err
	})
}

// buildCopy serves POST /build/copy: the body is the archive, the query says what
// of it goes where and to whom.
func (a *Agent) buildCopy(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	u, err := a.settings.user(query.Get("user"))
	if err != nil {
		return build.Mistake(err)
	}
	c := build.Copy{
		Source:      query.Get("source"),
		Destination: build.Place(query.Get("destination"), query.Get("workdir"), u),
		Owner:       build.Owner{UID: int(u.UID), GID: int(u.GID)},
	}
	if owner := query.Get("owner"); owner != "" {
		if c.Owner, err = build.ParseOwner(owner); err != nil {
			return err
		}
	}
	if c.Mode, err = build.ParseMode(query.Get("mode")); err != nil {
		return err
	}
	entries, err := c.From(r.Body)
	if err != nil {
		_, _ = io.Copy(io.Discard, r.Body) // or the server reads no answer, but that nobody takes the rest
		return err
	}
	writeJSON(w, http.StatusOK, buildResult{Entries: entries})
	return nil
}

// isBuild tells whether a path is of a template's build.
func isBuild(path string) bool { return strings.HasPrefix(path, buildPrefix) }

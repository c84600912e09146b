package envd

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"cube/envd/users"
)

// composeRequest is the body of POST /files/compose.
type composeRequest struct {
	SourcePaths []string `json:"source_paths"`
	Destination string   `json:"destination"`
	Username    string   `json:"username"`
}

// compose serves POST /files/compose: it puts files, mostly the parts of a large
// upload, one after the other into a new one, and removes them. The destination
// is replaced at once, or not at all.
func (a *Agent) compose(w http.ResponseWriter, r *http.Request) {
	var request composeRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessage)).Decode(&request); err != nil {
		writeError(w, http.StatusBadRequest, "the body must be a JSON object: "+err.Error())
		return
	}
	u, err := a.settings.user(request.Username)
	if err != nil {
		writeError(w, http.StatusUnauthorized, err.Error())
		return
	}
	entry, err := a.composeAs(u, request)
	if err != nil {
		a.writeFileError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, entry)
}

func (a *Agent) composeAs(u users.User, request composeRequest) (_ uploaded, err error) {
	if len(request.SourcePaths) == 0 {
		return uploaded{}, &httpError{http.StatusBadRequest, "source_paths must not be empty"}
	}
	if request.Destination == "" {
		return uploaded{}, &httpError{http.StatusBadRequest, "destination is required"}
	}
	destination := a.settings.resolve(u, request.Destination)
	sources := make([]string, len(request.SourcePaths))
	for i, path := range request.SourcePaths {
		sources[i] = a.settings.resolve(u, path)
		if sources[i] == destination {
			return uploaded{}, &httpError{http.StatusBadRequest, fmt.Sprintf("source path %q cannot be the same as destination", path)}
		}
		if err := wantRegular(sources[i]); err != nil {
			return uploaded{}, err
		}
	}
	if info, err := os.Stat(destination); err == nil && info.IsDir() {
		return uploaded{}, fileError(destination, syscall.EISDIR)
	}
	if err := u.MakeDirs(filepath.Dir(destination)); err != nil {
		return uploaded{}, fileError(destination, err)
	}
	whole := filepath.Join(filepath.Dir(destination), ".compose-"+rand.Text())
	file, err := os.OpenFile(whole, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return uploaded{}, fileError(destination, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(whole)
		}
	}()
	err = errors.Join(file.Chown(int(u.UID), int(u.GID)), appendAll(file, sources), file.Close())
	if err == nil {
		err = os.Rename(whole, destination)
	}
	if err != nil {
		return uploaded{}, fileError(destination, err)
	}
	for _, source := range sources {
		_ = os.Remove(source) // the same may be named twice
	}
	return uploaded{Path: destination, Name: filepath.Base(destination), Type: "file"}, nil
}

func wantRegular(path string) error {
	file, _, err := openRegular(path)
	if err != nil {
		return err
	}
	return file.Close()
}

// appendAll copies files into one, inside the kernel where that is possible.
func appendAll(to *os.File, sources []string) error {
	for _, source := range sources {
		file, _, err := openRegular(source)
		if err != nil {
			return err
		}
		_, err = io.Copy(to, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

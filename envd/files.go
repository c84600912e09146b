package envd

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"syscall"

	"cube/envd/users"
)

// httpError is an error with the status that tells it.
type httpError struct {
	status  int
	message string
}

func (e *httpError) Error() string { return e.message }

// fileError turns an error of the file system into what a client can use.
func fileError(path string, err error) *httpError {
	if answer, ok := errors.AsType[*httpError](err); ok {
		return answer
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &httpError{http.StatusNotFound, fmt.Sprintf("path '%s' does not exist", path)}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &httpError{http.StatusInsufficientStorage, "not enough disk space available"}
	case errors.Is(err, syscall.EISDIR):
		return &httpError{http.StatusBadRequest, fmt.Sprintf("path '%s' is a directory", path)}
	case errors.Is(err, syscall.ENOTDIR):
		return &httpError{http.StatusBadRequest, fmt.Sprintf("a part of the path '%s' is not a directory", path)}
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		return &httpError{http.StatusBadRequest, fmt.Sprintf("%q cannot be a path: %v", path, err)}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return &httpError{http.StatusForbidden, fmt.Sprintf("path '%s' cannot be opened: %v", path, err)}
	}
	return &httpError{http.StatusInternalServerError, err.Error()}
}

// fileRequest authorizes a request for /files and finds whose it is. The user is
// the one in the query and no other: that is the one that a signature covers.
func (a *Agent) fileRequest(r *http.Request, operation string) (users.User, error) {
	if err := a.authorizeFile(r, operation); err != nil {
		return users.User{}, &httpError{http.StatusUnauthorized, err.Error()}
	}
	u, err := a.settings.user(r.URL.Query().Get("username"))
	if err != nil {
		return users.User{}, &httpError{http.StatusUnauthorized, err.Error()}
	}
	return u, nil
}

func (a *Agent) writeFileError(w http.ResponseWriter, err error) {
	answer, ok := errors.AsType[*httpError](err)
	if !ok {
		answer = &httpError{http.StatusInternalServerError, err.Error()}
	}
	if answer.status == http.StatusInternalServerError {
		a.log.Error("serving a file", "error", err)
	}
	writeError(w, answer.status, answer.message)
}

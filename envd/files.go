package envd

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &httpError{http.StatusNotFound, fmt.Sprintf("path '%s' does not exist", path)}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &httpError{http.StatusInsufficientStorage, "not enough disk space available"}
	case errors.Is(err, syscall.EISDIR):
		return &httpError{http.StatusBadRequest, fmt.Sprintf("path '%s' is a directory", path)}
	case errors.Is(err, syscall.ENOTDIR):
		return &httpError{http.StatusBadRequest, fmt.Sprintf("a part of the path '%s' is not a directory", path)}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return &httpError{http.StatusForbidden, fmt.Sprintf("path '%s' cannot be opened: %v", path, err)}
	}
	return &httpError{http.StatusInternalServerError, err.Error()}
}

// fileRequest authorizes a request for /files and finds whose it is.
func (a *Agent) fileRequest(r *http.Request, operation string) (users.User, error) {
	if err := a.authorizeFile(r, operation); err != nil {
		return users.User{}, &httpError{http.StatusUnauthorized, err.Error()}
	}
	name := r.URL.Query().Get("username")
	if name == "" {
		name = basicUser(r.Header)
	}
	u, err := a.settings.user(name)
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

// download serves GET /files.
func (a *Agent) download(w http.ResponseWriter, r *http.Request) {
	u, err := a.fileRequest(r, operationRead)
	if err != nil {
		a.writeFileError(w, err)
		return
	}
	path := a.settings.resolve(u, r.URL.Query().Get("path"))
	// Not blocking: opening a pipe that nobody writes to would wait for ever.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		a.writeFileError(w, fileError(path, err))
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		a.writeFileError(w, fileError(path, err))
		return
	}
	if !info.Mode().IsRegular() {
		a.writeFileError(w, &httpError{http.StatusBadRequest, fmt.Sprintf("path '%s' is not a regular file: it cannot be downloaded", path)})
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": filepath.Base(path)}))
	h.Set("Cache-Control", "no-store")
	if info.Size() == 0 {
		// Empty, or of the kernel's: those say 0 whatever they hold.
		_, _ = io.Copy(w, file)
		return
	}
	http.ServeContent(w, r, "", info.ModTime(), file) // ranges, HEAD
}

// uploaded is one entry of the answer to POST /files.
type uploaded struct {
	Path string `json:"path"`
	Name string `json:"name"`
	Type string `json:"type"`
}

// upload serves POST /files: one file as the raw body, or several as parts of a
// form. What arrives is written as it comes.
func (a *Agent) upload(w http.ResponseWriter, r *http.Request) {
	u, err := a.fileRequest(r, operationWrite)
	if err != nil {
		a.writeFileError(w, err)
		return
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		if encoding != "gzip" {
			a.writeFileError(w, &httpError{http.StatusBadRequest, fmt.Sprintf("content encoding %q is not supported: send gzip or none", encoding)})
			return
		}
		body, err := gzip.NewReader(r.Body)
		if err != nil {
			a.writeFileError(w, &httpError{http.StatusBadRequest, "the body is no gzip stream: " + err.Error()})
			return
		}
		r.Body = io.NopCloser(body)
	}
	path := r.URL.Query().Get("path")
	var entries []uploaded
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err == nil && kind == "application/octet-stream":
		entries, err = a.uploadRaw(r, u, path)
	case err == nil && kind == "multipart/form-data":
		entries, err = a.uploadForm(r, u, path)
	default:
		err = &httpError{http.StatusBadRequest, "send multipart/form-data with fields named 'file', or application/octet-stream"}
	}
	if err != nil {
		a.writeFileError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, entries)
}

func (a *Agent) uploadRaw(r *http.Request, u users.User, path string) ([]uploaded, error) {
	if path == "" {
		return nil, &httpError{http.StatusBadRequest, "path is required for application/octet-stream"}
	}
	entry, err := writeFile(a.settings.resolve(u, path), u, r.Body)
	if err != nil {
		return nil, err
	}
	return []uploaded{entry}, nil
}

// uploadForm writes each part named "file"; its file name is its path, unless
// the query gives one for the only part.
func (a *Agent) uploadForm(r *http.Request, u users.User, path string) ([]uploaded, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return nil, &httpError{http.StatusBadRequest, err.Error()}
	}
	entries := []uploaded{}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, &httpError{http.StatusBadRequest, "the form is broken: " + err.Error()}
		}
		if part.FormName() != "file" {
			continue
		}
		target := path
		if target == "" {
			target = partPath(part.Header.Get("Content-Disposition"))
		} else if len(entries) > 0 {
			return nil, &httpError{http.StatusBadRequest, "several files were sent for one path: leave path out, and each goes to its own file name"}
		}
		if target == "" {
			return nil, &httpError{http.StatusBadRequest, "a file has no path: give it in the query, or as the part's file name"}
		}
		entry, err := writeFile(a.settings.resolve(u, target), u, part)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	if len(entries) == 0 {
		return nil, &httpError{http.StatusBadRequest, "no file was sent: the form has no field named 'file'"}
	}
	return entries, nil
}

// partPath returns the whole file name of a part: Part.FileName cuts the
// directories off, and here they are the point.
func partPath(disposition string) string {
	_, parameters, err := mime.ParseMediaType(disposition)
	if err != nil {
		return ""
	}
	return parameters["filename"]
}

// writeFile writes a file in place, as a shell's redirection does: one that was
// there keeps its mode and its links. It belongs to the user afterwards, and so
// do the directories that were missing.
func writeFile(path string, u users.User, content io.Reader) (_ uploaded, err error) {
	if strings.ContainsRune(path, 0) {
		return uploaded{}, &httpError{http.StatusBadRequest, "a path cannot hold a zero byte"}
	}
	if err := u.MakeDirs(filepath.Dir(path)); err != nil {
		return uploaded{}, fileError(path, err)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return uploaded{}, fileError(path, syscall.EISDIR)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return uploaded{}, fileError(path, err)
	}
	defer func() {
		if e := file.Close(); e != nil && err == nil {
			err = fileError(path, e)
		}
	}()
	if err := file.Chown(int(u.UID), int(u.GID)); err != nil {
		return uploaded{}, fileError(path, err)
	}
	if _, err := io.Copy(file, content); err != nil {
		if _, onFile := errors.AsType[*fs.PathError](err); onFile {
			return uploaded{}, fileError(path, err)
		}
		return uploaded{}, &httpError{http.StatusBadRequest, "the body broke off: " + err.Error()}
	}
	return uploaded{Path: path, Name: filepath.Base(path), Type: "file"}, nil
}

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
	"sync"
	"syscall"

	"cube/envd/filesystem"
	"cube/envd/users"
)

// uploaded is one entry of the answer to POST /files.
type uploaded struct {
	Path string `json:"path"`
	Name string `json:"name"`
	Type string `json:"type"`
	// Metadata are those that the file has now.
	Metadata map[string]string `json:"metadata,omitempty"`
}

// metadataPrefix begins the headers that attach metadata to an upload. What
// follows is a key, in small letters.
const metadataPrefix = "X-Metadata-"

// metadataOf reads them.
func metadataOf(header http.Header) (map[string]string, error) {
	metadata := map[string]string{}
	for name, values := range header {
		if key, found := strings.CutPrefix(name, metadataPrefix); found && len(values) > 0 {
			metadata[strings.ToLower(key)] = values[0]
		}
	}
	if err := filesystem.CheckMetadata(metadata); err != nil {
		return nil, &httpError{http.StatusBadRequest, err.Error()}
	}
	return metadata, nil
}

// upload serves POST /files: one file as the raw body, or several as parts of a
// form. What arrives is written as it comes.
func (a *Agent) upload(w http.ResponseWriter, r *http.Request) {
	u, err := a.fileRequest(r, operationWrite)
	if err != nil {
		a.writeFileError(w, err)
		return
	}
	metadata, err := metadataOf(r.Header)
	if err != nil {
		a.writeFileError(w, err)
		return
	}
	if err := decodeBody(r); err != nil {
		a.writeFileError(w, err)
		return
	}
	path := r.URL.Query().Get("path")
	var entries []uploaded
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "application/octet-stream":
		entries, err = a.uploadRaw(r, u, path, metadata)
	case "multipart/form-data":
		entries, err = a.uploadForm(r, u, path, metadata)
	default:
		err = &httpError{http.StatusBadRequest, "send multipart/form-data with fields named 'file', or application/octet-stream"}
	}
	if err != nil {
		a.writeFileError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, entries)
}

// decodeBody replaces a compressed body by what it holds.
func decodeBody(r *http.Request) error {
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return nil
	case "gzip":
		body, err := gzip.NewReader(r.Body)
		if err != nil {
			return &httpError{http.StatusBadRequest, "the body is no gzip stream: " + err.Error()}
		}
		r.Body = body
		return nil
	default:
		return &httpError{http.StatusBadRequest, fmt.Sprintf("content encoding %q is not supported: send gzip or none", encoding)}
	}
}

func (a *Agent) uploadRaw(r *http.Request, u users.User, path string, metadata map[string]string) ([]uploaded, error) {
	if path == "" {
		return nil, &httpError{http.StatusBadRequest, "path is required for application/octet-stream"}
	}
	entry, err := writeFile(a.settings.resolve(u, path), u, r.Body, metadata)
	if err != nil {
		return nil, err
	}
	return []uploaded{entry}, nil
}

// uploadForm writes each part named "file"; its file name is its path, unless
// the query gives one for the only part.
func (a *Agent) uploadForm(r *http.Request, u users.User, path string, metadata map[string]string) ([]uploaded, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return nil, &httpError{http.StatusBadRequest, err.Error()}
	}
	var entries []uploaded
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
		entry, err := writeFile(a.settings.resolve(u, target), u, part, metadata)
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

// uploadBuffers are for what is on its way to a file: larger than io.Copy's own,
// as each write is a system call, and gVisor's are dear.
var uploadBuffers = sync.Pool{New: func() any {
	buffer := make([]byte, 256<<10)
	return &buffer
}}

// writeFile writes a file in place, as a shell's redirection does: one that was
// there keeps its mode and its links. It belongs to the user afterwards, as with
// E2B's agent, and so do the directories that were missing. Its metadata are
// those of this upload and no others. A new file that cannot be finished is
// removed, and one that was there is as it was: see overwrite.
func writeFile(path string, u users.User, content io.Reader, metadata map[string]string) (_ uploaded, err error) {
	if err := u.MakeDirs(filepath.Dir(path)); err != nil {
		return uploaded{}, fileError(path, err)
	}
	_, err = os.Lstat(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	// Not blocking: opening a pipe that nobody reads would wait for ever.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return uploaded{}, fileError(path, err)
	}
	defer func() {
		if e := file.Close(); e != nil && err == nil {
			err = fileError(path, e)
		}
		if err != nil && isNew {
			_ = os.Remove(path)
		}
	}()
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.Mode().IsRegular() && info.Size() > 0:
		err = overwrite(file, u, content, metadata, info.Size())
	default:
		if err = writeThrough(file, u, content, metadata); err != nil && info.Mode().IsRegular() {
			_ = file.Truncate(0)
		}
	}
	if err != nil {
		return uploaded{}, fileError(path, err)
	}
	return uploaded{Path: path, Name: filepath.Base(path), Type: "file", Metadata: filesystem.Metadata(path)}, nil
}

// writeThrough writes to a file that holds nothing, or is none, what arrives as it
// comes.
func writeThrough(file *os.File, u users.User, content io.Reader, metadata map[string]string) error {
	if err := file.Chown(int(u.UID), int(u.GID)); err != nil {
		return err
	}
	if _, err := receive(file, content); err != nil {
		return err
	}
	return filesystem.SetMetadata(file, metadata)
}

// receive copies what arrives to a file.
func receive(file *os.File, content io.Reader) (int64, error) {
	buffer := uploadBuffers.Get().(*[]byte)
	defer uploadBuffers.Put(buffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{file}, content, *buffer)
	if _, onFile := errors.AsType[*fs.PathError](err); err != nil && !onFile {
		err = brokenOff(err)
	}
	return n, err
}

func brokenOff(err error) error {
	return &httpError{http.StatusBadRequest, "the body broke off: " + err.Error()}
}

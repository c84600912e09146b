package envd

import (
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// download serves GET /files.
func (a *Agent) download(w http.ResponseWriter, r *http.Request) {
	u, err := a.fileRequest(r, operationRead)
	if err != nil {
		a.writeFileError(w, err)
		return
	}
	path := a.settings.resolve(u, r.URL.Query().Get("path"))
	file, info, err := openRegular(path)
	if err != nil {
		a.writeFileError(w, err)
		return
	}
	defer file.Close()
	compressed, ok := encodingOf(r)
	if !ok {
		a.writeFileError(w, &httpError{http.StatusNotAcceptable, "no acceptable encoding found: a file is sent as it is, or with gzip; a part of one as it is"})
		return
	}
	h := w.Header()
	h.Set("Vary", "Accept-Encoding")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": filepath.Base(path)}))
	h.Set("Cache-Control", "no-store")
	if compressed {
		h.Set("Content-Encoding", "gzip")
		// The link is most often fast, and the sandbox's processors are few.
		out, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if _, err := io.Copy(out, file); err == nil {
			_ = out.Close()
		}
		return
	}
	if !sizeIsHonest(file, info) {
		_, _ = io.Copy(w, file) // the other side went away: no error of ours
		return
	}
	http.ServeContent(w, r, "", info.ModTime(), file) // with ranges
}

func openRegular(path string) (*os.File, fs.FileInfo, error) {
	// Not blocking: opening a pipe that nobody writes to would wait for ever.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fileError(path, err)
	}
	info, err := file.Stat()
	switch {
	case err != nil:
		err = fileError(path, err)
	case info.IsDir():
		err = fileError(path, syscall.EISDIR)
	case !info.Mode().IsRegular():
		err = &httpError{http.StatusBadRequest, fmt.Sprintf("path '%s' is not a regular file: it cannot be downloaded", path)}
	default:
		return file, info, nil
	}
	_ = file.Close()
	return nil, nil, err
}

// sizeIsHonest tells whether a file holds as much as it says. The kernel's own
// say 0 (/proc) or a page (/sys), whatever they hold.
func sizeIsHonest(file *os.File, info fs.FileInfo) bool {
	if info.Size() == 0 {
		return false
	}
	var on unix.Statfs_t
	return unix.Fstatfs(int(file.Fd()), &on) == nil && on.Type != unix.SYSFS_MAGIC
}

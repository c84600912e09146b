package api

import (
	"net/http"
	"strings"
	"time"

	"cube"
	"cube/api/gen"
	"cube/build"
	"cube/internal/httperror"
)

// GET /templates/{templateID}/files/{hash}
func (a *api) getUpload(w http.ResponseWriter, r *http.Request) error {
	present, link, err := a.templates.Upload(r.Context(), r.PathValue("templateID"), r.PathValue("hash"))
	if err != nil {
		return err
	}
	url := a.origin(r) + link
	return writeJSON(w, http.StatusCreated, gen.BuildUpload{Present: present, Url: &url})
}

// origin is where the client reaches this server: where it just did.
func (a *api) origin(r *http.Request) string {
	scheme := "http"
	// Behind a proxy that speaks HTTPS, it alone knows. A client that claims it
	// leads itself astray and nobody else.
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// uploadTimeout bounds how long an upload may take. The SDKs give it as long.
const uploadTimeout = time.Hour

// Uploads takes the archives of COPY steps: PUT to a link that was given out, whose
// signature is all the credential that it needs. It stands beside the API, before
// the door, which would ask for another.
type Uploads struct{ Templates *build.Service }

// Takes tells whether a request is for it.
func (u Uploads) Takes(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, build.UploadPrefix)
}

// ServeHTTP implements http.Handler.
func (u Uploads) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		w.Header().Set("Allow", http.MethodPut)
		httperror.WriteStatus(w, http.StatusMethodNotAllowed, "This path has no such method: it has PUT")
		return
	}
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(uploadTimeout)) // where there is no connection there is no slow client
	if err := u.Templates.Receive(r.URL, r.Body, r.ContentLength); err != nil {
		if cube.KindOf(err) == cube.Internal {
			err = cube.WrapError(cube.Internal, err, "The archive could not be kept: try again")
		}
		httperror.Write(w, err)
		return
	}
	_ = connection.SetReadDeadline(time.Time{})
	w.WriteHeader(http.StatusOK)
}

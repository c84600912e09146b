package auth

import (
	"net/http"
	"time"

	"cube/internal/httperror"
)

// Limits of every request: a client that sends its headers slowly or without
// end must not hold a connection, nor one that is refused and sends on.
const (
	maxHeaderBytes     = 64 << 10
	readHeaderTimeout  = 30 * time.Second
	refusedBodyTimeout = 5 * time.Second
)

// ConfigureServer sets what the door needs of the HTTP server: limits on
// headers, and that the server does not answer "OPTIONS *" by itself before the
// door has seen it.
func ConfigureServer(s *http.Server) {
	s.MaxHeaderBytes = maxHeaderBytes
	s.ReadHeaderTimeout = readHeaderTimeout
	s.DisableGeneralOptionsHandler = true
}

// servedMethods are all that some route may have.
const servedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// refuseMethod answers the methods that would make the server a proxy or an
// echo.
func refuseMethod(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodConnect && r.Method != http.MethodTrace {
		return false
	}
	answerBeforeBody(w, r)
	w.Header().Set("Allow", servedMethods) // RFC 9110, section 15.5.6
	httperror.WriteStatus(w, http.StatusMethodNotAllowed, messageMethod)
	return true
}

// answerBeforeBody lets a refusal go out at once. Left alone, net/http reads up
// to 256 KiB of the body first, to use the connection again, and so waits for a
// client that sends slowly. On a connection that is to be closed it does that
// after the answer, and a client that sends on is not cut off before it reads.
// HTTP/2 waits for no body.
func answerBeforeBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 || r.ProtoMajor != 1 {
		return
	}
	w.Header().Set("Connection", "close")
	// Fails only on a writer that is not net/http's, and holds no connection.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedBodyTimeout))
}

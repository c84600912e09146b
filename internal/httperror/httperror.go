// Package httperror writes errors in E2B's format, and is the one place that
// maps the kinds of cube.Error to HTTP statuses. It must never show a cause:
// causes may hold addresses, paths and secrets.
package httperror

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"cube"
)

// body is E2B's Error schema. The SDKs read code, also to find a 404.
type body struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Ended   *ended `json:"ended,omitempty"`
}

// ended is our addition: why the sandbox that was asked for is gone.
type ended struct {
	Reason cube.EndReason `json:"reason"`
	At     time.Time      `json:"at"`
	By     string         `json:"by,omitempty"`
	Detail string         `json:"detail,omitempty"`
}

// internalMessage is all that a user learns of a fault of ours.
const internalMessage = "Internal server error: the operator finds the cause in the server's log, under this answer's X-Request-Id"

// Status maps a kind to its HTTP status.
func Status(kind cube.Kind) int {
	switch kind {
	case cube.Invalid:
		return http.StatusBadRequest
	case cube.Unauthorized:
		return http.StatusUnauthorized
	case cube.Forbidden:
		return http.StatusForbidden
	case cube.NotFound:
		return http.StatusNotFound
	case cube.Conflict:
		return http.StatusConflict
	case cube.TooLarge:
		return http.StatusRequestEntityTooLarge
	case cube.Exhausted:
		return http.StatusTooManyRequests
	case cube.Unsupported:
		return http.StatusNotImplemented
	case cube.Unavailable:
		return http.StatusServiceUnavailable
	case cube.Timeout:
		return http.StatusGatewayTimeout
	case cube.Internal:
	}
	return http.StatusInternalServerError
}

// Write answers with err. An error that is no cube.Error, and an Internal one
// whose message is empty, is a 500 that says nothing of its cause.
func Write(w http.ResponseWriter, err error) {
	var b body
	b.Code, b.Message = Describe(err)
	if e, ok := errors.AsType[*cube.Error](err); ok {
		if e.Ended != nil {
			b.Ended = &ended{Reason: e.Ended.Reason, At: e.Ended.At, By: e.Ended.By, Detail: e.Ended.Detail}
		}
		if e.RetryAfter > 0 { // whole seconds, RFC 9110, section 10.2.3: never too early
			seconds := (e.RetryAfter + time.Second - 1) / time.Second
			w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
		}
	}
	writeBody(w, b)
}

// Describe returns the status and the message with which err is answered, where
// an answer holds several.
func Describe(err error) (status int, message string) {
	e, ok := errors.AsType[*cube.Error](err)
	switch {
	case !ok:
		return http.StatusInternalServerError, internalMessage
	case e.Message == "":
		return Status(e.Kind), internalMessage
	}
	return Status(e.Kind), e.Message
}

// WriteStatus answers with a status that has no kind, such as 405.
func WriteStatus(w http.ResponseWriter, status int, message string) {
	writeBody(w, body{Code: status, Message: message})
}

func writeBody(w http.ResponseWriter, b body) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if b.Code == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="cube"`)
	}
	w.WriteHeader(b.Code)
	// A client that went away is no error of ours.
	_ = json.NewEncoder(w).Encode(b)
}

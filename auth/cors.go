package auth

import "net/http"

// exposedHeaders are those of our answers that a page may read.
const exposedHeaders = "X-Next-Token, X-Total-Running, X-Request-Id, Server-Timing, Retry-After, Warning, WWW-Authenticate"

// allowOrigins lets a page of any origin read an answer, an error too: the key
// decides, not the origin, and no cookie is ever read.
func allowOrigins(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", exposedHeaders)
}

// isPreflight tells a browser's question from another OPTIONS request, by the
// Fetch standard, section 3.2.2.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

func answerPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", servedMethods)
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked) // a wildcard would leave out Authorization
	}
	h.Set("Access-Control-Max-Age", "7200")
	h.Set("Vary", "Access-Control-Request-Headers")
	w.WriteHeader(http.StatusNoContent)
}

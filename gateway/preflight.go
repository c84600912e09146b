package gateway

import "net/http"

// A browser asks before a page may send a token, and sends none with the question.
// So a sandbox that wakes for its token alone cannot be woken to answer it, and
// need not be: of its agent the answer is always the same.

// isPreflight tells a browser's question from another OPTIONS request, by the
// Fetch standard, section 3.2.2.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// answerPreflight answers as the agent does.
func answerPreflight(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "*")
	h.Set("Access-Control-Allow-Methods", "*")
	h.Set("Access-Control-Allow-Headers", "*, Authorization")
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
}

package envd

import (
	"net/http"
	"strconv"

	"cube/envd/logs"
)

// recordLines is how many lines one answer holds at most.
const recordLines = 512

// record is the answer to GET /record, which the server alone may ask: what the
// sandbox uses, and the lines that its processes printed since it last asked.
type record struct {
	Metrics measurement `json:"metrics"`
	Logs    logs.Page   `json:"logs"`
}

func (a *Agent) serveRecord(w http.ResponseWriter, r *http.Request) {
	// Only the server has the key, and its proxy lets none through.
	if !a.settings.isServer(r.Header.Get(hostKeyHeader)) {
		writeError(w, http.StatusUnauthorized, "only the server may ask for this")
		return
	}
	query := r.URL.Query()
	seq, err := strconv.ParseUint(query.Get("seq"), 10, 64)
	if err != nil && query.Get("seq") != "" {
		writeError(w, http.StatusBadRequest, "seq must be a number")
		return
	}
	writeJSON(w, http.StatusOK, record{a.measure(), a.logs.After(query.Get("epoch"), seq, recordLines)})
}

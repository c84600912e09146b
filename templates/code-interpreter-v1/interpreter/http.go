package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// maxRequest bounds a request's body, in bytes.
	maxRequest = 64 << 20
	// keepaliveInterval is how often something is written while code is silent,
	// so that a client that vanished is noticed.
	keepaliveInterval = 5 * time.Second
)

func routes(c *contexts) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, "OK") })
	mux.HandleFunc("POST /execute", func(w http.ResponseWriter, r *http.Request) { execute(c, w, r) })
	mux.HandleFunc("GET /contexts", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, c.list()) })
	mux.HandleFunc("POST /contexts", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Language, Cwd string }
		if !decode(w, r, &body) {
			return
		}
		made, err := c.create(body.Language, body.Cwd)
		if err != nil {
			fail(w, err)
			return
		}
		writeJSON(w, made.info())
	})
	mux.HandleFunc("POST /contexts/{id}/restart", func(w http.ResponseWriter, r *http.Request) {
		if err := c.restart(r.PathValue("id")); err != nil {
			fail(w, err)
			return
		}
		writeJSON(w, nil)
	})
	mux.HandleFunc("DELETE /contexts/{id}", func(w http.ResponseWriter, r *http.Request) {
		if err := c.remove(r.PathValue("id")); err != nil {
			fail(w, err)
			return
		}
		writeJSON(w, nil)
	})
	return withCORS(mux)
}

// executeRequest is the body of POST /execute.
type executeRequest struct {
	Code      string            `json:"code"`
	ContextID string            `json:"context_id"`
	Language  string            `json:"language"`
	EnvVars   map[string]string `json:"env_vars"`
}

// execute runs code and streams what it gives, a line of JSON each. A client that
// goes away interrupts it.
func execute(c *contexts, w http.ResponseWriter, r *http.Request) {
	var body executeRequest
	if !decode(w, r, &body) {
		return
	}
	if body.ContextID != "" && body.Language != "" {
		http.Error(w, "Only one of context_id or language can be provided", http.StatusBadRequest)
		return
	}
	for name := range body.EnvVars {
		if !isName(name) {
			http.Error(w, fmt.Sprintf("env_vars: %.64q cannot name a variable: use letters, digits and _", name), http.StatusBadRequest)
			return
		}
	}
	in, err := c.find(body.ContextID, body.Language)
	if err != nil {
		fail(w, err)
		return
	}
	globals := c.globals(r.Context(), r.Header.Get("X-Access-Token"))
	output := make(chan event)
	go func() {
		defer close(output)
		in.run(r.Context(), job{Code: body.Code, Language: in.language, Env: body.EnvVars, Globals: globals}, output)
	}()
	stream(w, output)
}

// stream writes events until there are no more.
func stream(w http.ResponseWriter, events <-chan event) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	flusher := http.NewResponseController(w)
	lines := json.NewEncoder(w)
	silence := time.NewTicker(keepaliveInterval)
	defer silence.Stop()
	for {
		select {
		case e, more := <-events:
			if !more {
				_ = lines.Encode(event{"type": "end_of_execution"})
				return
			}
			_ = lines.Encode(e) // a client that went away ends the request's context
			silence.Reset(keepaliveInterval)
		case <-silence.C:
			_ = lines.Encode(event{"type": "keepalive"})
		}
		_ = flusher.Flush()
	}
}

// decode reads a JSON body; an empty one is an empty object.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(into)
	if err == nil || errors.Is(err, io.EOF) {
		return true
	}
	http.Error(w, "the body must be a JSON object: "+err.Error(), http.StatusUnprocessableEntity)
	return false
}

func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, errNoContext) {
		status = http.StatusNotFound
	}
	http.Error(w, err.Error(), status)
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the other side went away: no error of ours
}

// withCORS lets pages of any origin ask: E2B's packages run in browsers too.
func withCORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if r.Method == http.MethodOptions {
			w.Header().Set("Access-Control-Allow-Methods", "*")
			w.Header().Set("Access-Control-Allow-Headers", "*, Authorization")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isName tells whether s can name a variable of every language's.
func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) && (s[0] < '0' || s[0] > '9')
}

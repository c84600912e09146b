// Package requestid gives every request an id of ours, so that an answer, the
// log lines about it and the question to the auth callback can be told to
// belong together. It never takes an id from a client: ids in the log are ours.
package requestid

import (
	"context"
	"crypto/rand"
	"net/http"
)

// Header carries the id on answers and on questions to the auth callback.
const Header = "X-Request-Id"

type contextKey struct{}

// Middleware puts a new id into the request's context and on its answer.
func Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := rand.Text()
		w.Header().Set(Header, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, id)))
	})
}

// From returns the id of the request that ctx belongs to, "" outside of one.
func From(ctx context.Context) string {
	id, _ := ctx.Value(contextKey{}).(string)
	return id
}

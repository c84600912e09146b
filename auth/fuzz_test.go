package auth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// FuzzPathJudgedIsPathServed (P3) has the router as its oracle: whatever comes
// through was judged under exactly the path that its handler's pattern matches.
func FuzzPathJudgedIsPathServed(f *testing.F) {
	for _, path := range []string{"/sandboxes", "/sandboxes/x", "/templates/a%2Fb", "/templates/../health", "//health", "/sandboxes/%2e%2e/health", "/v2/sandboxes?x=/health", "/%73andboxes", "/templates/%61liases/x", "/templates/a%3Ab/tags", "/sandboxes/x#y", "*", "http://h/health"} {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
			f.Add(method, path)
		}
	}
	var mu sync.Mutex
	var judged []string
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		judged = append(judged, r.Header.Get("X-Request-Method")+" "+r.Header.Get("X-Request-Path"))
	}))
	f.Cleanup(service.Close)
	h := newHouse(f, asking(service.URL))
	f.Fuzz(func(t *testing.T, method, path string) {
		if strings.ContainsAny(method+path, "\r\n ") || method == "" || path == "" || len(path) > 8<<10 {
			t.Skip("no request line")
		}
		mu.Lock()
		judged = nil
		mu.Unlock()
		resp := h.raw(t, method+" "+path+" HTTP/1.1\r\nHost: cube\r\nX-API-Key: key\r\nConnection: close\r\n\r\n")
		ran := resp.Header.Get("X-Ran")
		if resp.StatusCode >= 300 && resp.StatusCode < 400 {
			t.Fatalf("%s %q is redirected to %q", method, path, resp.Header.Get("Location"))
		}
		if ran == "" || strings.HasSuffix(ran, " /health") {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if len(judged) != 1 {
			t.Fatalf("%s %q ran %q after %d questions", method, path, ran, len(judged))
		}
		if pattern := matchLiterally(judged[0]); pattern != ran {
			t.Fatalf("%s %q was judged as %q, which is %q, and ran %q", method, path, judged[0], pattern, ran)
		}
	})
}

// matchLiterally finds the pattern of a path by comparing its segments, without
// decoding or cleaning anything.
func matchLiterally(judged string) string {
	method, path, _ := strings.Cut(judged, " ")
	segments := strings.Split(path, "/")
	best, wildcards := "", 99
	for _, pattern := range patterns {
		m, p, _ := strings.Cut(pattern, " ")
		parts := strings.Split(p, "/")
		if m != method || len(parts) != len(segments) {
			continue
		}
		wild, ok := 0, true
		for i, part := range parts {
			if strings.HasPrefix(part, "{") {
				wild++
				ok = ok && segments[i] != ""
			} else {
				ok = ok && part == segments[i]
			}
		}
		if ok && wild < wildcards {
			best, wildcards = pattern, wild
		}
	}
	return best
}

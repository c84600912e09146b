package auth

import (
	"net/http"
	"strings"
)

// dropTrustHeaders removes from a client's request the headers by which servers
// tell each other who asked for what. A client may not: here identity lives in
// the request's context, and a server in a sandbox must be able to believe them.
func dropTrustHeaders(h http.Header) {
	for name := range h {
		if isTrustHeader(name) {
			delete(h, name)
		}
	}
	// Named as hop-by-hop, a header is removed on the way by any proxy: also
	// one that was set here.
	for i, value := range h["Connection"] {
		kept := []string{}
		for option := range strings.SplitSeq(value, ",") {
			if !isTrustHeader(strings.TrimSpace(option)) {
				kept = append(kept, option)
			}
		}
		h["Connection"][i] = strings.Join(kept, ",")
	}
}

// foldName makes one of the spellings that some server takes for the same: CGI
// makes "_" of "-", others fold ".".
var foldName = strings.NewReplacer("_", "-", ".", "-")

// isTrustHeader knows a trust header in any spelling.
func isTrustHeader(name string) bool {
	folded := foldName.Replace(strings.ToLower(name))
	if folded == "x-request-path" || folded == "x-request-method" {
		return true
	}
	for _, prefix := range []string{"x-auth-", "x-user-", "x-team-"} {
		if strings.HasPrefix(folded, prefix) {
			return true
		}
	}
	return false
}

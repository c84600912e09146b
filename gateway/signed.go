package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cube"
)

// A link to a file on a host that is for all sandboxes does not say which one it
// is of, but its signature is made with the token of one. So the sandbox is the
// one whose token makes that signature; its agent checks it again, and when it
// ends.

var errBadLink = cube.Errorf(cube.Unauthorized, "invalid signature: no sandbox that runs has made this link")

// isSigned tells whether a request is such a link.
func isSigned(r *http.Request) bool {
	return r.URL.Path == "/files" && fileOperation(r.Method) != "" && r.URL.Query().Get("signature") != ""
}

// fileOperation is what a link with a method is signed for.
func fileOperation(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		return "read"
	case http.MethodPost:
		return "write"
	}
	return ""
}

// signatureLength is that of v1_ and 32 bytes in base64.
const signatureLength = len("v1_") + 43

// signedFor finds the sandbox of a signed link. It costs one short hash for each
// sandbox that runs, however long the link is, and one link is looked up at a
// time: a flood of wrong ones takes a part of one processor.
func (g *Gateway) signedFor(ctx context.Context, r *http.Request) (cube.SandboxID, bool) {
	signs := signer(r)
	if signs == nil {
		return "", false
	}
	select {
	case g.lookups <- struct{}{}:
		defer func() { <-g.lookups }()
	case <-ctx.Done():
		return "", false
	}
	return g.sandboxes.FindByAccessToken(signs)
}

// signer returns what tells whether a link was signed with a token; nil if it
// was with none.
func signer(r *http.Request) func(token string) bool {
	query := r.URL.Query()
	signature := query.Get("signature")
	if len(signature) != signatureLength || !strings.HasPrefix(signature, "v1_") {
		return nil
	}
	end := query.Get("signature_expiration")
	if end != "" {
		end = ":" + end
	}
	if len(end) > 32 { // no number of seconds is
		return nil
	}
	begin := sha256.New()
	_, _ = io.WriteString(begin, query.Get("path")+":"+fileOperation(r.Method)+":"+query.Get("username")+":")
	return func(token string) bool {
		h, err := begin.(hash.Cloner).Clone()
		if err != nil {
			return false
		}
		_, _ = io.WriteString(h, token+end)
		want := "v1_" + base64.RawStdEncoding.EncodeToString(h.Sum(nil))
		return subtle.ConstantTimeCompare([]byte(signature), []byte(want)) == 1
	}
}

// waker returns what tells whether a request to the agent shows by a signature
// that its maker has a token; nil if it shows nothing. A link whose time is over
// opens nothing in a sandbox that runs, and wakes none.
func waker(r *http.Request) func(token string) bool {
	if !isSigned(r) {
		return nil
	}
	if end := r.URL.Query().Get("signature_expiration"); end != "" {
		seconds, err := strconv.ParseInt(end, 10, 64)
		if err != nil || seconds < time.Now().Unix() {
			return nil
		}
	}
	return signer(r)
}

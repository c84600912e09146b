package envd

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// The operations that a link can be signed for.
const (
	operationRead  = "read"
	operationWrite = "write"
)

// authorizeFile decides on a request for /files: with the access token in a
// header, or, for links that are given away, with a signature in the query.
func (a *Agent) authorizeFile(r *http.Request, operation string) error {
	token, set := a.settings.token()
	if !set {
		return nil
	}
	if presented := r.Header.Get(accessTokenHeader); presented != "" {
		if !equal(presented, token) {
			return errors.New("access token present in header but does not match")
		}
		return nil
	}
	query := r.URL.Query()
	signature := query.Get("signature")
	if signature == "" {
		return errors.New("missing signature query parameter")
	}
	expiration := query.Get("signature_expiration")
	if !equal(signature, sign(query.Get("path"), operation, query.Get("username"), token, expiration)) {
		return errors.New("invalid signature")
	}
	if expiration == "" {
		return nil
	}
	seconds, err := strconv.ParseInt(expiration, 10, 64)
	if err != nil {
		return errors.New("invalid signature expiration")
	}
	if time.Now().Unix() > seconds {
		return errors.New("signature is already expired")
	}
	return nil
}

// sign computes what E2B's SDKs put into a link. expiration is in seconds since
// 1970, "" for a link that does not expire.
func sign(path, operation, username, token, expiration string) string {
	text := path + ":" + operation + ":" + username + ":" + token
	if expiration != "" {
		text += ":" + expiration
	}
	sum := sha256.Sum256([]byte(text))
	return "v1_" + base64.RawStdEncoding.EncodeToString(sum[:])
}

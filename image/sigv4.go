package image

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

type awsKey struct{ id, secret string }

// sign signs a request as Amazon's services want it: Signature Version 4, for
// requests whose path needs no escaping.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func sign(req *http.Request, payload []byte, key awsKey, region, service string, now time.Time) {
	const algorithm = "AWS4-HMAC-SHA256"
	stamp := now.UTC().Format("20060102T150405Z")
	day := stamp[:8]
	req.Header.Set("X-Amz-Date", stamp)

	values := map[string]string{"host": req.URL.Host}
	for name := range req.Header {
		values[strings.ToLower(name)] = strings.TrimSpace(req.Header.Get(name))
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	var headers strings.Builder
	for _, name := range names {
		headers.WriteString(name + ":" + values[name] + "\n")
	}
	signed := strings.Join(names, ";")
	path := (&url.URL{Path: req.URL.Path}).EscapedPath()
	canonical := strings.Join([]string{req.Method, path, req.URL.Query().Encode(), headers.String(), signed, hexHash(payload)}, "\n")

	scope := strings.Join([]string{day, region, service, "aws4_request"}, "/")
	toSign := strings.Join([]string{algorithm, stamp, scope, hexHash([]byte(canonical))}, "\n")

	derived := []byte("AWS4" + key.secret)
	for _, part := range []string{day, region, service, "aws4_request"} {
		derived = mac(derived, part)
	}
	req.Header.Set("Authorization", algorithm+" Credential="+key.id+"/"+scope+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(mac(derived, toSign)))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

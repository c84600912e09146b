package callback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cube/internal/requestid"
)

// The headers of a signed question.
const (
	TimestampHeader = "X-Cube-Timestamp" // seconds since 1970, decimal
	SignatureHeader = "X-Cube-Signature" // "v1=" and 64 hexadecimal digits, lower-case
)

// signatureVersion begins a signature, and what is signed.
const signatureVersion = "v1"

// Sign returns the value of SignatureHeader: "v1=" and, in hexadecimal, the
// HMAC-SHA256 with key of these seven lines, each ended by one line feed:
//
//	v1
//	the value of X-Cube-Timestamp
//	the value of X-Request-Method
//	the value of X-Request-Path
//	the value of X-Request-Id, empty if there is none
//	the name of the header with the credential: authorization or x-api-key
//	the value of that header, with "Bearer " if it begins so
//
// The values stand as they were sent. None can hold a line feed, so that no two
// questions are the same text. What is not here is not signed.
func Sign(key []byte, timestamp string, h http.Header) string {
	mac := hmac.New(sha256.New, key)
	name := "Authorization"
	if len(h[name]) == 0 {
		name = "X-Api-Key"
	}
	for _, line := range []string{
		signatureVersion, timestamp, h.Get("X-Request-Method"), h.Get("X-Request-Path"), h.Get(requestid.Header),
		strings.ToLower(name), h.Get(name),
	} {
		mac.Write([]byte(line))
		mac.Write([]byte{'\n'})
	}
	return signatureVersion + "=" + hex.EncodeToString(mac.Sum(nil))
}

// Verify is for the operator's service: it returns nil for a question that was
// signed with the same key, not longer than tolerance ago nor that far ahead of
// now. Whoever reads a question on its way can ask it again within that time,
// and learns who was allowed what; TLS is what keeps others from reading it.
func Verify(key []byte, r *http.Request, now time.Time, tolerance time.Duration) error {
	if len(key) == 0 {
		return errors.New("there is no key to verify with")
	}
	for name, least := range map[string]int{
		TimestampHeader: 1, SignatureHeader: 1, "X-Request-Method": 1, "X-Request-Path": 1, requestid.Header: 0,
	} {
		if n := len(r.Header[name]); n < least || n > 1 {
			return fmt.Errorf("the question holds %s %d times", name, n)
		}
	}
	// With two, the one that was signed need not be the one that is looked at.
	if n := len(r.Header["Authorization"]) + len(r.Header["X-Api-Key"]); n != 1 {
		return fmt.Errorf("the question holds %d credentials", n)
	}
	timestamp := r.Header.Get(TimestampHeader)
	want := Sign(key, timestamp, r.Header)
	if !hmac.Equal([]byte(want), []byte(r.Header.Get(SignatureHeader))) {
		return errors.New("the question was not signed with this key, or was changed since")
	}
	seconds, ok := digits(timestamp)
	if !ok || seconds > 1<<40 {
		return errors.New("the question's timestamp is none")
	}
	if age := now.Sub(time.Unix(int64(seconds), 0)); age > tolerance || age < -tolerance {
		return errors.New("the question was signed at another time: it is old, or the clocks differ")
	}
	return nil
}

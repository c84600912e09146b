package cache

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

const (
	// maxToken is the length of the longest token that is looked into, in bytes.
	// The door lets none pass that is longer.
	maxToken = 8 << 10
	// longestExpiry is in seconds, some 30 years: far over any TTL, and a
	// time.Duration can hold it.
	longestExpiry = 1e9
)

// untilExpiry returns how long a JWT's own claim lets it live after now, 0 if it
// has expired; false if the credential is no JWT or makes no such claim.
//
// The claim is not verified, whoever made it: it may shorten what the service
// said, and must serve for nothing else.
func untilExpiry(token string, now time.Time) (time.Duration, bool) {
	seconds, ok := expiryClaim(token)
	if !ok {
		return 0, false
	}
	left := seconds - float64(now.UnixNano())/float64(time.Second)
	left = min(max(left, 0), longestExpiry)
	return time.Duration(left * float64(time.Second)), true
}

// expiryClaim returns "exp": seconds since 1970, perhaps with a fraction (RFC
// 7519, sections 2 and 4.1.4).
func expiryClaim(token string) (seconds float64, ok bool) {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return 0, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return 0, false
	}
	// A map, for a struct's field would take "EXP" too.
	var claims map[string]json.RawMessage
	if err := json.Unmarshal(payload, &claims); err != nil {
		return 0, false
	}
	var exp *float64 // a null is none
	if err := json.Unmarshal(claims["exp"], &exp); err != nil || exp == nil {
		return 0, false
	}
	return *exp, true
}

package auth

import (
	"errors"
	"net/http"
	"strings"

	"cube/auth/decision"
)

// maxCredential is the length of the longest credential, in bytes.
const maxCredential = 8 << 10

var (
	errNoCredential = errors.New("no credential")
	errMalformed    = errors.New("malformed credential")
)

// credentialOf finds the one credential of a request. A Bearer token comes
// before X-API-Key. An Authorization of another scheme, or an empty Bearer, is
// no credential and hides none: the SDKs send Basic to the agent, and keys in
// X-API-Key.
func credentialOf(h http.Header) (decision.Credential, error) {
	authorizations, keys := h.Values("Authorization"), h.Values("X-Api-Key")
	if len(authorizations) > 1 || len(keys) > 1 {
		return decision.Credential{}, errMalformed // two readers could each believe another
	}
	if len(authorizations) == 1 {
		scheme, token, _ := strings.Cut(authorizations[0], " ")
		token = strings.Trim(token, " ")
		switch {
		case strings.Contains(scheme, "\t"):
			return decision.Credential{}, errMalformed
		case strings.EqualFold(scheme, "Bearer") && token != "":
			return decision.Credential{Kind: decision.Bearer, Secret: token}, checkKey(token)
		}
	}
	if len(keys) == 1 && keys[0] != "" {
		return decision.Credential{Kind: decision.APIKey, Secret: keys[0]}, checkKey(keys[0])
	}
	return decision.Credential{}, errNoCredential
}

// checkKey refuses what could mean one thing here and another to the callback.
func checkKey(key string) error {
	if len(key) > maxCredential {
		return errMalformed
	}
	for _, b := range []byte(key) {
		if b <= ' ' || b >= 0x7f {
			return errMalformed
		}
	}
	return nil
}

package keys

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// A key is "e2b_" and 40 characters of hex: E2B's SDKs refuse others before they
// send them.
//
// Its hash is one round of SHA-256, without salt. Slow hashes and salts protect
// what people think of, which can be guessed. These are 160 bits from the
// system's random source: nobody guesses them, however fast they hash, and one
// round costs a request nothing.
const (
	// Prefix is how every key begins.
	Prefix = "e2b_"
	// Length is that of a key behind the prefix, in characters.
	Length = 40

	// What a mask shows of these characters, as E2B's does; 136 bits stay
	// unknown.
	maskStart, maskEnd = 2, 4
)

// newSecret returns a key that was never used before.
func newSecret() string {
	var random [Length / 2]byte
	rand.Read(random[:])
	return Prefix + hex.EncodeToString(random[:])
}

// isSecret tells whether a text has the form of a key. What has not is refused
// without a look at the database.
func isSecret(s string) bool {
	value, found := strings.CutPrefix(s, Prefix)
	if !found || len(value) != Length {
		return false
	}
	for _, b := range []byte(value) {
		if (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return false
		}
	}
	return true
}

// mask returns what may be shown of a key.
func mask(secret string) (start, end string) {
	value := strings.TrimPrefix(secret, Prefix)
	return value[:maskStart], value[len(value)-maskEnd:]
}

package keys

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"cube"
)

// A key's hash is one round of SHA-256, without salt. Slow hashes and salts
// protect what people think of, which can be guessed. These are 160 bits from
// the system's random source: nobody guesses them, however fast they hash, and
// one round costs a request nothing.

// What a mask shows of a key, as E2B's does: so many characters behind the
// prefix, and so many at the end. 136 bits stay unknown.
const maskStart, maskEnd = 2, 4

// newSecret returns a key that was never used before.
func newSecret() string {
	var random [cube.APIKeyLength / 2]byte
	rand.Read(random[:])
	return cube.APIKeyPrefix + hex.EncodeToString(random[:])
}

// isSecret tells whether a text has the form of a key. What has not is refused
// without a look at the database.
func isSecret(s string) bool {
	value, found := strings.CutPrefix(s, cube.APIKeyPrefix)
	if !found || len(value) != cube.APIKeyLength {
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
	value := strings.TrimPrefix(secret, cube.APIKeyPrefix)
	return value[:maskStart], value[len(value)-maskEnd:]
}

package build

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
)

// keyVersion is that of how keys are made, and of what steps mean: another, and
// all is built anew.
const keyVersion = "1"

// keyOf names what follows from its parts. Each is written with its length, so
// that no two lists of parts are the same text.
func keyOf(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write([]byte(strconv.Itoa(len(part)) + ":" + part))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// baseKey names what a build begins with, and for whom.
func baseKey(scope, kind, base string, s state) string {
	parts := []string{keyVersion, scope, kind, base, s.user, s.workdir}
	for _, name := range slices.Sorted(maps.Keys(s.env)) {
		parts = append(parts, name, s.env[name])
	}
	return keyOf(parts...)
}

// chain returns the keys of steps, each after all before it. What a step finds
// follows from the base and the steps before, so it is in the keys already.
func chain(base string, steps []step) []string {
	keys := make([]string, len(steps))
	for i, s := range steps {
		base = keyOf(append([]string{base, s.kind, s.hash}, s.args...)...)
		keys[i] = base
	}
	return keys
}

// shortKey is a key as the log shows it.
func shortKey(key string) string { return key[:12] }

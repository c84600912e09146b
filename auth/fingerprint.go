package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"
)

// fingerprints tell credentials apart where none may stand. With a key that
// stays, a credential has the same one for ever; without the key, nobody can
// tell whether a credential that they guess is the one.
type fingerprints struct{ macs sync.Pool }

// FingerprintKeySize is the length of a good key, in bytes.
const FingerprintKeySize = sha256.Size

func newFingerprints(key []byte) *fingerprints {
	if len(key) == 0 {
		key = make([]byte, FingerprintKeySize)
		_, _ = rand.Read(key) // never fails
	}
	return &fingerprints{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

// of returns 16 hexadecimal digits: enough to tell millions of credentials
// apart.
func (f *fingerprints) of(secret string) string {
	mac := f.macs.Get().(hash.Hash)
	defer f.macs.Put(mac)
	mac.Reset()
	_, _ = mac.Write([]byte(secret)) // a hash takes everything
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

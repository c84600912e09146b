package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"

	"golang.org/x/sync/singleflight"

	"cube/auth/decision"
)

// key stands for a question: whoever reads the memory of the cache learns no
// credential from it, and nobody can make two questions that have the same.
type key [sha256.Size]byte

// generation is the time between two purges. Its keys are made with a secret of
// its own, so that nothing of one generation is ever found by the next, however
// late a question in flight comes back.
type generation struct {
	keyers  sync.Pool // of *keyer
	flights singleflight.Group
}

func newGeneration() *generation {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails
	return &generation{keyers: sync.Pool{New: func() any {
		return &keyer{mac: hmac.New(sha256.New, secret)}
	}}}
}

// keyer makes keys. Its parts are kept for the next one, so that making a key
// allocates nothing.
type keyer struct {
	mac  hash.Hash
	text []byte
	sum  key
}

// key returns the key of all that is decided about.
func (g *generation) key(q *decision.Question) key {
	k := g.keyers.Get().(*keyer)
	defer g.keyers.Put(k)
	k.text = append(k.text[:0], byte(q.Credential.Kind))
	for _, part := range [...]string{q.Credential.Secret, q.Method, q.Path} {
		// The length before each part keeps what is in one from reading as
		// another's.
		k.text = binary.AppendUvarint(k.text, uint64(len(part)))
		k.text = append(k.text, part...)
	}
	k.mac.Reset()
	_, _ = k.mac.Write(k.text) // a hash takes everything
	k.mac.Sum(k.sum[:0])
	clear(k.text) // the credential
	return k.sum
}

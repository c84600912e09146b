package chunks

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
)

const (
	keySize = 32 // AES-256
	// maxKeyFile is more than a file of keys has, in bytes.
	maxKeyFile = 16 << 10
	idSize     = 8
)

// key is one line of a key file, as what is made of it.
type key struct {
	id   [idSize]byte // tells which key has sealed something
	seal cipher.AEAD
	name []byte // of the names' HMAC
}

// Keys seal and open. The first one seals; the others open what was sealed when
// they were first. No keys seal nothing.
type Keys []key

// ReadKeys reads a file of keys, one a line, each 32 bytes as hexadecimal digits
// or base64. Empty lines and those that begin with # are none.
func ReadKeys(path string) (Keys, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%s has %d bytes: a file of keys has one key a line", path, len(data))
	}
	var keys Keys
	for i, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		secret, err := parseKey(string(line))
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, i+1, err)
		}
		k, err := newKey(secret)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no key: write 32 random bytes into it, such as 'openssl rand -hex 32' gives", path)
	}
	return keys, nil
}

// parseKey never has the line in its error.
func parseKey(line string) ([]byte, error) {
	if secret, err := hex.DecodeString(line); err == nil && len(secret) == keySize {
		return secret, nil
	}
	if secret, err := base64.StdEncoding.DecodeString(line); err == nil && len(secret) == keySize {
		return secret, nil
	}
	return nil, errors.New("a key is 32 bytes, as 64 hexadecimal digits or in base64: 'openssl rand -hex 32' gives one")
}

func newKey(secret []byte) (key, error) {
	derive := func(what string, size int) ([]byte, error) {
		return hkdf.Key(sha256.New, secret, nil, "cube snapshots: "+what, size)
	}
	var k key
	id, err1 := derive("id", idSize)
	sealing, err2 := derive("sealing", keySize)
	name, err3 := derive("names", keySize)
	if err := errors.Join(err1, err2, err3); err != nil {
		return k, err
	}
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return k, err
	}
	k.seal, err = cipher.NewGCM(block)
	k.name = name
	copy(k.id[:], id)
	return k, err
}

// errKey is that something was sealed with a key that is not there.
var errKey = errors.New("it is encrypted with a key that is not in --snapshot-key-file: put that key back, on a line of its own below the first")

// nameOf is what a chunk with this content is called.
func (ks Keys) nameOf(plain []byte) Name {
	if len(ks) == 0 {
		return sha256.Sum256(plain)
	}
	return ks[0].nameOf(plain)
}

func (k key) nameOf(plain []byte) (n Name) {
	mac := hmac.New(sha256.New, k.name)
	mac.Write(plain)
	mac.Sum(n[:0])
	return n
}

// lock seals data for a place, if there are keys: key id, nonce, sealed.
func (ks Keys) lock(data, place []byte) []byte {
	k := ks[0]
	out := make([]byte, idSize+k.seal.NonceSize(), idSize+k.seal.NonceSize()+len(data)+k.seal.Overhead())
	copy(out, k.id[:])
	nonce := out[idSize:]
	_, _ = rand.Read(nonce) // never fails
	return k.seal.Seal(out, nonce, data, place)
}

// open returns what lock was given, and the key.
func (ks Keys) open(data, place []byte) ([]byte, key, error) {
	for _, k := range ks {
		if !bytes.HasPrefix(data, k.id[:]) {
			continue
		}
		data = data[idSize:]
		if len(data) < k.seal.NonceSize() {
			return nil, k, errDamaged
		}
		plain, err := k.seal.Open(nil, data[:k.seal.NonceSize()], data[k.seal.NonceSize():], place)
		if err != nil {
			return nil, k, errDamaged
		}
		return plain, k, nil
	}
	return nil, key{}, errKey
}

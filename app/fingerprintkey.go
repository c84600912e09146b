package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cube/auth"
)

// fingerprintKey returns the key that makes fingerprints of credentials, and
// makes it at the first start: with it a credential has the same one for ever.
// The caller holds the data directory's lock.
func fingerprintKey(dataDir string) ([]byte, error) {
	path := filepath.Join(dataDir, "fingerprint.key")
	key, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading the key of fingerprints: %w", err)
	case len(key) == auth.FingerprintKeySize:
		return key, nil
	}
	key = make([]byte, auth.FingerprintKeySize)
	_, _ = rand.Read(key) // never fails
	if err := writeWhole(path, key); err != nil {
		return nil, fmt.Errorf("writing the key of fingerprints: %w", err)
	}
	return key, nil
}

// writeWhole writes a file that is there whole, or not at all, for its owner.
func writeWhole(path string, content []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

package gvisor

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// programs holds runsc and envd. The folder also holds a file that is in the
// repository, so that everything compiles before they were ever built.
//
//go:embed embedded
var programs embed.FS

var errNotEmbedded = errors.New("this build carries no sandbox programs: build it with 'make build'")

// embedded returns one of the programs.
func embedded(name string) ([]byte, error) {
	content, err := programs.ReadFile("embedded/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNotEmbedded
	}
	return content, err
}

// unpack writes an embedded program into dir under a name that tells its
// content, and returns its path. Sandboxes of an earlier version go on running
// the program that they were started with.
func unpack(name, dir string) (string, error) {
	content, err := embedded(name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	path := filepath.Join(dir, name+"-"+hex.EncodeToString(sum[:8]))
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(content)) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, content, 0o755); err != nil {
		return "", err
	}
	return path, os.Rename(tmp, path)
}

package launch

import (
	"crypto/sha256"
	"encoding/hex"
)

// Name is what the things on a machine that belong to one data directory are
// called, so that those of two servers are told apart: the directory of the
// control groups, the firewall's table, and, with a number behind it, the
// network interfaces, whose names may be 15 characters long.
func Name(dataDir string) string {
	sum := sha256.Sum256([]byte(dataDir))
	return "cube" + hex.EncodeToString(sum[:3])
}

package cube

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"time"
)

// APIKeyID names one key for ever. It is a UUID, as E2B's protocol has it, and
// no secret.
type APIKeyID string

var apiKeyIDPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// NewAPIKeyID returns an id that was never used before, from the system's
// random source.
func NewAPIKeyID() APIKeyID {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40 // version 4: random (RFC 9562, section 5.4)
	b[8] = b[8]&0x3f | 0x80 // the variant of that RFC
	return APIKeyID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}

// ParseAPIKeyID checks an id that came from outside. Whatever is not of the form
// of our ids cannot exist, so the error is NotFound.
func ParseAPIKeyID(s string) (APIKeyID, error) {
	if !apiKeyIDPattern.MatchString(s) {
		return "", Errorf(NotFound, "API key %q not found: the id of a key is a UUID in lower case", abbreviate(s))
	}
	return APIKeyID(s), nil
}

// A key is APIKeyPrefix and APIKeyLength characters of lower-case hex: E2B's SDKs
// refuse others before they send them.
const (
	APIKeyPrefix = "e2b_"
	APIKeyLength = 40
)

// APIKeyRole is what a key may do.
type APIKeyRole string

// The roles.
const (
	RoleFull     APIKeyRole = "full"
	RoleReadOnly APIKeyRole = "read-only" // no method that changes something
)

// APIKey is one key of this server's own as the store keeps it: all but the key
// itself, which nobody can read again.
type APIKey struct {
	ID   APIKeyID
	Name string // one owner's keys that are not revoked have different ones
	// Hash is the SHA-256 of the key.
	Hash [32]byte
	// MaskStart and MaskEnd are the first and the last characters behind the
	// key's prefix, by which people tell keys apart.
	MaskStart, MaskEnd string

	Role      APIKeyRole
	Owner     Owner    // of the key, and of what is created with it
	Operator  bool     // it has ScopeOperator
	Templates []string // ids and aliases that it may use; nil for all

	CreatedAt time.Time // this and the others: UTC, whole milliseconds
	CreatedBy APIKeyID  // the key that asked for it; "" for the command line
	ExpiresAt time.Time // zero for never
	RevokedAt time.Time // zero for a key that is not revoked
}

// APIKeyStore keeps the rows of keys. All methods may be called concurrently,
// and other processes may write the same rows: what anybody has written, every
// later call sees. Times come back in UTC and in whole milliseconds. storetest
// checks these promises.
type APIKeyStore interface {
	// CreateAPIKey adds a row, if its owner has fewer than most keys that are
	// not revoked. Kinds: Conflict (the id or the hash is in use, or the name by
	// another of the owner's keys that is not revoked), Exhausted. Then nothing
	// was written.
	CreateAPIKey(ctx context.Context, k APIKey, most int) error

	// APIKey returns one row, also of a revoked key. Kind: NotFound.
	APIKey(ctx context.Context, id APIKeyID) (APIKey, error)

	// APIKeyByHash returns the row of a key, also of a revoked one. Kind:
	// NotFound.
	APIKeyByHash(ctx context.Context, hash [32]byte) (APIKey, error)

	// ListAPIKeys returns the rows that match, oldest first.
	ListAPIKeys(ctx context.Context, q APIKeyQuery) ([]APIKey, error)

	// HasAPIKeys tells whether there is any row, be it of a revoked key.
	HasAPIKeys(ctx context.Context) (bool, error)

	// RenameAPIKey changes the name of a key that is not revoked. Kinds:
	// NotFound (no such key, or a revoked one), Conflict (the name is in use, as
	// with CreateAPIKey).
	RenameAPIKey(ctx context.Context, id APIKeyID, name string) error

	// RevokeAPIKey writes when a key was revoked. Of the revoked ones the newest
	// keep rows stay, at least this one. Kind: NotFound (no such key, or it is
	// revoked already).
	RevokeAPIKey(ctx context.Context, id APIKeyID, at time.Time, keep int) error
}

// APIKeyQuery selects rows. The zero value of a field filters nothing but
// revoked keys.
type APIKeyQuery struct {
	Owner   Owner // only its fields that are set are compared
	Name    string
	Revoked bool // list revoked keys too
}

package keys

import (
	"context"
	"crypto/sha256"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cube"
)

const (
	// MaxKeys is how many keys that are not revoked one owner may have.
	MaxKeys = 1000
	// maxRevoked is how many rows of revoked keys stay, of all owners: without a
	// bound, who makes and revokes in a loop fills the disk.
	maxRevoked = 10_000

	maxName      = 64  // characters
	maxWord      = 256 // bytes of a subject, a team or a template
	maxTemplates = 100
)

// Request is what a key is made of. The zero value of a field but Name is the
// usual.
type Request struct {
	Name      string          // 1 to 64 printable characters, of its own among the owner's keys
	Role      cube.APIKeyRole // default cube.RoleFull
	Owner     cube.Owner
	Operator  bool
	Templates []string      // nil for all
	Lifetime  time.Duration // 0 for ever
}

// Issue makes a key, whoever asks: this is the operator at the command line.
// The secret is the key itself, which nobody can read again. Kinds of errors:
// Invalid, Conflict (the name is in use), Exhausted (the owner has MaxKeys).
func Issue(ctx context.Context, store cube.APIKeyStore, r Request) (key cube.APIKey, secret string, err error) {
	if r.Lifetime < 0 {
		return cube.APIKey{}, "", cube.Errorf(cube.Invalid, "A key cannot expire %s ago: write a time above zero, such as 720h", -r.Lifetime)
	}
	key = cube.APIKey{Name: r.Name, Role: r.Role, Owner: r.Owner, Operator: r.Operator, Templates: r.Templates}
	if r.Role == "" {
		key.Role = cube.RoleFull
	}
	if r.Lifetime > 0 {
		key.ExpiresAt = now().Add(r.Lifetime)
	}
	return issue(ctx, store, key)
}

// issue gives a key its id and its secret, and writes it.
func issue(ctx context.Context, store cube.APIKeyStore, key cube.APIKey) (_ cube.APIKey, secret string, err error) {
	if err := check(key); err != nil {
		return cube.APIKey{}, "", err
	}
	secret = newSecret()
	key.ID = cube.NewAPIKeyID()
	key.CreatedAt = now()
	key.Hash = sha256.Sum256([]byte(secret))
	key.MaskStart, key.MaskEnd = mask(secret)
	if err := store.CreateAPIKey(ctx, key, MaxKeys); err != nil {
		return cube.APIKey{}, "", err
	}
	return key, secret, nil
}

// now is the time as rows hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func check(k cube.APIKey) error {
	if err := checkName(k.Name); err != nil {
		return err
	}
	if k.Role != cube.RoleFull && k.Role != cube.RoleReadOnly {
		return cube.Errorf(cube.Invalid, "There is no role %.64q: write %q or %q", k.Role, cube.RoleFull, cube.RoleReadOnly)
	}
	if k.Owner.Subject != "" && !isWord(k.Owner.Subject) {
		return cube.Errorf(cube.Invalid, "The subject must be up to %d printable ASCII characters without blanks", maxWord)
	}
	if k.Owner.Team != "" && !isWord(k.Owner.Team) {
		return cube.Errorf(cube.Invalid, "The team must be up to %d printable ASCII characters without blanks", maxWord)
	}
	if len(k.Templates) > maxTemplates {
		return cube.Errorf(cube.Invalid, "A key may be for at most %d templates: leave them out for all", maxTemplates)
	}
	for _, template := range k.Templates {
		if !isWord(template) {
			return cube.Errorf(cube.Invalid, "The templates hold %.64q, which is no name or id of one", template)
		}
	}
	return nil
}

// checkName refuses what would break a table, or be taken for another key.
func checkName(name string) error {
	n := utf8.RuneCountInString(name)
	unprintable := strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
	if n < 1 || n > maxName || unprintable || !utf8.ValidString(name) || strings.TrimSpace(name) != name {
		return cube.Errorf(cube.Invalid, "The name of a key must be 1 to %d printable characters and have no blank at its ends", maxName)
	}
	if _, err := cube.ParseAPIKeyID(name); err == nil {
		return cube.Errorf(cube.Invalid, "The name of a key must not look like the id of one")
	}
	return nil
}

// isWord tells whether a text can be a subject, a team or a template: what the
// operator's service could say as well.
func isWord(s string) bool {
	outside := func(r rune) bool { return r <= ' ' || r > '~' }
	return s != "" && len(s) <= maxWord && !strings.ContainsFunc(s, outside)
}

package keys

import (
	"context"
	"slices"

	"cube"
)

// What holders of keys may do with keys. Who asks is the identity of the
// context; what is not theirs is not found, in the words of what never was.

// List returns the caller's keys that are not revoked, oldest first. Kind of
// errors: Forbidden.
func (k *Keys) List(ctx context.Context) ([]cube.APIKey, error) {
	caller, owner, err := k.caller(ctx)
	if err != nil {
		return nil, err
	}
	list, err := k.store.ListAPIKeys(ctx, cube.APIKeyQuery{Owner: owner})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(key cube.APIKey) bool { return !k.sees(caller, key) }), nil
}

// Create makes a key that may do what the caller may and no more: it has the
// same owner and templates, it expires with the caller's key, and it is not the
// operator's. The secret is the key itself, which nobody can read again. Kinds
// of errors: Invalid, Forbidden, Conflict (the name is in use), Exhausted (the
// caller's owner has MaxKeys).
func (k *Keys) Create(ctx context.Context, name string) (key cube.APIKey, secret string, err error) {
	caller, _, err := k.caller(ctx)
	if err != nil {
		return cube.APIKey{}, "", err
	}
	parent, err := k.store.APIKey(ctx, cube.APIKeyID(caller.Key))
	if err != nil {
		return cube.APIKey{}, "", err
	}
	// The door has asked the same; a key that was revoked since leaves no heir.
	if !isLive(parent, now()) || parent.Role != cube.RoleFull {
		return cube.APIKey{}, "", cube.Errorf(cube.Forbidden, "Your key may not create keys")
	}
	return issue(ctx, k.store, cube.APIKey{
		Name: name, Role: cube.RoleFull, Owner: parent.Owner, Templates: parent.Templates,
		CreatedBy: parent.ID, ExpiresAt: parent.ExpiresAt,
	})
}

// Rename gives one of the caller's keys a new name. Kinds of errors: Invalid,
// Forbidden, NotFound, Conflict (the name is in use).
func (k *Keys) Rename(ctx context.Context, id cube.APIKeyID, name string) error {
	if err := k.mayChange(ctx, id); err != nil {
		return err
	}
	if err := checkName(name); err != nil {
		return err
	}
	return k.store.RenameAPIKey(ctx, id, name)
}

// Revoke ends one of the caller's keys, at once and for good; it may be the one
// that the caller asks with. Kinds of errors: Forbidden, NotFound.
func (k *Keys) Revoke(ctx context.Context, id cube.APIKeyID) error {
	if err := k.mayChange(ctx, id); err != nil {
		return err
	}
	return Revoke(ctx, k.store, id)
}

// Revoke ends a key, whoever asks: this is the operator at the command line.
// Kind of errors: NotFound (no such key, or it is revoked already).
func Revoke(ctx context.Context, store cube.APIKeyStore, id cube.APIKeyID) error {
	return store.RevokeAPIKey(ctx, id, now(), maxRevoked)
}

// caller returns who asks, and whose keys a list for it holds: the zero Owner
// stands for everybody's. Who has no key is refused: while the door is open,
// whoever made the first key would lock all others out.
func (k *Keys) caller(ctx context.Context) (caller cube.Identity, sees cube.Owner, err error) {
	caller = cube.IdentityFrom(ctx)
	if caller.Key == "" {
		return caller, sees, cube.Errorf(cube.Forbidden, "Keys are managed with a key: make the first with 'cube-api keys create NAME' on the server")
	}
	if k.seesAll(caller) {
		return caller, sees, nil
	}
	switch tenant := k.tenancy.Tenant(caller.Owner()); {
	case tenant == "":
		return caller, sees, cube.Errorf(cube.Forbidden, "This server keeps what belongs to each %s apart, and your key has none: ask its operator", k.tenancy)
	case k.tenancy == cube.TenancySubject:
		sees.Subject = tenant
	default:
		sees.Team = tenant
	}
	return caller, sees, nil
}

func (k *Keys) seesAll(caller cube.Identity) bool {
	return caller.Operator() || k.tenancy == cube.TenancyOff || k.tenancy == ""
}

// sees tells whether a key is among the caller's. A tenant's own do not include
// the operator's, also where the operator has given them to the same team.
func (k *Keys) sees(caller cube.Identity, key cube.APIKey) bool {
	return k.seesAll(caller) ||
		!key.Operator && k.tenancy.Tenant(key.Owner) == k.tenancy.Tenant(caller.Owner())
}

// mayChange refuses a key that is not the caller's.
func (k *Keys) mayChange(ctx context.Context, id cube.APIKeyID) error {
	caller, _, err := k.caller(ctx)
	if err != nil {
		return err
	}
	key, err := k.store.APIKey(ctx, id)
	if err != nil {
		return err
	}
	if !k.sees(caller, key) {
		return cube.Errorf(cube.NotFound, "API key %s not found", id)
	}
	return nil
}

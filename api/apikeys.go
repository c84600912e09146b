package api

import (
	"context"
	"net/http"

	"cube"
	"cube/api/gen"
)

// Keys are the server's own keys, as the caller of a context sees and may change
// them. What is not the caller's is not found.
type Keys interface {
	// List returns those that are not revoked, oldest first.
	List(ctx context.Context) ([]cube.APIKey, error)
	// Create makes a key that may do no more than the caller's. The secret is
	// the key itself, which nobody can read again.
	Create(ctx context.Context, name string) (key cube.APIKey, secret string, err error)
	Rename(ctx context.Context, id cube.APIKeyID, name string) error
	Revoke(ctx context.Context, id cube.APIKeyID) error
}

// GET /api-keys
func (a *api) listAPIKeys(w http.ResponseWriter, r *http.Request) error {
	if a.keys == nil {
		return errNoKeys()
	}
	keys, err := a.keys.List(r.Context())
	if err != nil {
		return err
	}
	list := []gen.TeamAPIKey{}
	for _, k := range keys {
		list = append(list, teamAPIKey(k))
	}
	return writeJSON(w, http.StatusOK, list)
}

// POST /api-keys
func (a *api) createAPIKey(w http.ResponseWriter, r *http.Request) error {
	if a.keys == nil {
		return errNoKeys()
	}
	var body gen.NewTeamAPIKey
	unknown, err := decodeBody(w, r, &body, []string{"name"}, false)
	if err != nil {
		return err
	}
	k, secret, err := a.keys.Create(r.Context(), body.Name)
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	listed := teamAPIKey(k)
	return writeJSON(w, http.StatusCreated, gen.CreatedTeamAPIKey{
		Id: listed.Id, Key: secret, Name: listed.Name, Mask: listed.Mask, CreatedAt: listed.CreatedAt,
	})
}

// PATCH /api-keys/{apiKeyID}
func (a *api) renameAPIKey(w http.ResponseWriter, r *http.Request) error {
	if a.keys == nil {
		return errNoKeys()
	}
	id, err := cube.ParseAPIKeyID(r.PathValue("apiKeyID"))
	if err != nil {
		return err
	}
	var body gen.UpdateTeamAPIKey
	unknown, err := decodeBody(w, r, &body, []string{"name"}, false)
	if err != nil {
		return err
	}
	if err := a.keys.Rename(r.Context(), id, body.Name); err != nil {
		return err
	}
	warnUnknown(w, unknown)
	w.WriteHeader(http.StatusOK) // with nothing, as E2B's
	return nil
}

// DELETE /api-keys/{apiKeyID}
func (a *api) revokeAPIKey(w http.ResponseWriter, r *http.Request) error {
	if a.keys == nil {
		return errNoKeys()
	}
	id, err := cube.ParseAPIKeyID(r.PathValue("apiKeyID"))
	if err != nil {
		return err
	}
	if err := a.keys.Revoke(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// errNoKeys answers where the operator's service decides: keys that are made
// here would open nothing.
func errNoKeys() error {
	return cube.Errorf(cube.Unsupported, "This server's own keys are not in use: its auth service decides on requests, and gives out keys")
}

// teamAPIKey leaves out lastUsed, which nobody keeps, and createdBy: E2B's is a
// person with an id, and keys know none.
func teamAPIKey(k cube.APIKey) gen.TeamAPIKey {
	return gen.TeamAPIKey{
		Id:   string(k.ID),
		Name: k.Name,
		Mask: gen.IdentifierMaskingDetails{
			Prefix: cube.APIKeyPrefix, ValueLength: cube.APIKeyLength,
			MaskedValuePrefix: k.MaskStart, MaskedValueSuffix: k.MaskEnd,
		},
		CreatedAt: k.CreatedAt,
	}
}

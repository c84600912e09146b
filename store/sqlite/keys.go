package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cube"
)

const (
	keyColumns = `id, name, hash, mask_start, mask_end, role, owner_subject, owner_team, operator,
		templates, created_at, created_by, expires_at, revoked_at`

	// One statement counts and writes, so that two processes that create at once
	// do not go over the limit together.
	insertKeySQL = `INSERT INTO api_keys (` + keyColumns + `)
		SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14
		WHERE (SELECT count(*) FROM api_keys
			WHERE owner_team = ?8 AND owner_subject = ?7 AND revoked_at IS NULL) < ?15
		ON CONFLICT DO NOTHING`

	keyInUseSQL = `SELECT EXISTS (SELECT 1 FROM api_keys WHERE id = ?1 OR hash = ?2
			OR (owner_team = ?3 AND owner_subject = ?4 AND name = ?5 AND revoked_at IS NULL))`

	deleteRevokedSQL = `DELETE FROM api_keys WHERE id IN (
			SELECT id FROM api_keys WHERE revoked_at IS NOT NULL
			ORDER BY revoked_at DESC, id DESC LIMIT -1 OFFSET ?1) AND id <> ?2`
)

// APIKeys implements cube.APIKeyStore in the file of a Store.
type APIKeys struct {
	store  *Store
	byHash *sql.Stmt // runs for each request
	any    *sql.Stmt // runs for each request while there is no key
}

var _ cube.APIKeyStore = (*APIKeys)(nil)

// APIKeys returns the rows of keys. Closing the store closes them too.
func (s *Store) APIKeys(ctx context.Context) (*APIKeys, error) {
	byHash, err := s.read.PrepareContext(ctx, `SELECT `+keyColumns+` FROM api_keys WHERE hash = ?`)
	if err != nil {
		return nil, fmt.Errorf("preparing to read the rows of API keys: %w", err)
	}
	found, err := s.read.PrepareContext(ctx, `SELECT EXISTS (SELECT 1 FROM api_keys)`)
	if err != nil {
		return nil, fmt.Errorf("preparing to read the rows of API keys: %w", err)
	}
	return &APIKeys{store: s, byHash: byHash, any: found}, nil
}

// CreateAPIKey implements cube.APIKeyStore.
func (a *APIKeys) CreateAPIKey(ctx context.Context, k cube.APIKey, most int) error {
	templates, err := encodeTemplates(k.Templates)
	if err != nil {
		return err
	}
	result, err := a.store.write.ExecContext(ctx, insertKeySQL,
		k.ID, k.Name, k.Hash[:], k.MaskStart, k.MaskEnd, k.Role, k.Owner.Subject, k.Owner.Team, k.Operator,
		templates, k.CreatedAt.UnixMilli(), k.CreatedBy, milliOrNull(k.ExpiresAt), milliOrNull(k.RevokedAt), most)
	if err != nil {
		return fmt.Errorf("writing the row of API key %s: %w", k.ID, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	var inUse bool
	err = a.store.read.QueryRowContext(ctx, keyInUseSQL, k.ID, k.Hash[:], k.Owner.Team, k.Owner.Subject, k.Name).Scan(&inUse)
	switch {
	case err != nil:
		return fmt.Errorf("looking why API key %s was not written: %w", k.ID, err)
	case inUse:
		return errNameInUse(k.Name)
	}
	return cube.Errorf(cube.Exhausted, "There are %d API keys, which is the limit: revoke one first", most)
}

// APIKey implements cube.APIKeyStore.
func (a *APIKeys) APIKey(ctx context.Context, id cube.APIKeyID) (cube.APIKey, error) {
	k, err := scanKey(a.store.read.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM api_keys WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return cube.APIKey{}, errNoKey(id)
	}
	if err != nil {
		return cube.APIKey{}, fmt.Errorf("reading the row of API key %s: %w", id, err)
	}
	return k, nil
}

// APIKeyByHash implements cube.APIKeyStore.
func (a *APIKeys) APIKeyByHash(ctx context.Context, hash [32]byte) (cube.APIKey, error) {
	k, err := scanKey(a.byHash.QueryRowContext(ctx, hash[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return cube.APIKey{}, cube.Errorf(cube.NotFound, "No API key has this hash")
	}
	if err != nil {
		return cube.APIKey{}, fmt.Errorf("reading the row of an API key by its hash: %w", err)
	}
	return k, nil
}

// ListAPIKeys implements cube.APIKeyStore.
func (a *APIKeys) ListAPIKeys(ctx context.Context, q cube.APIKeyQuery) ([]cube.APIKey, error) {
	list, err := a.list(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("listing API keys: %w", err)
	}
	return list, nil
}

func (a *APIKeys) list(ctx context.Context, q cube.APIKeyQuery) ([]cube.APIKey, error) {
	var w where
	if q.Owner.Subject != "" {
		w.and(`owner_subject = ?`, q.Owner.Subject)
	}
	if q.Owner.Team != "" {
		w.and(`owner_team = ?`, q.Owner.Team)
	}
	if q.Name != "" {
		w.and(`name = ?`, q.Name)
	}
	if !q.Revoked {
		w.and(`revoked_at IS NULL`)
	}
	rows, err := a.store.read.QueryContext(ctx, `SELECT `+keyColumns+` FROM api_keys`+w.String()+` ORDER BY created_at, id`, w.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []cube.APIKey
	for rows.Next() {
		k, err := scanKey(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, k)
	}
	return list, rows.Err()
}

// HasAPIKeys implements cube.APIKeyStore.
func (a *APIKeys) HasAPIKeys(ctx context.Context) (bool, error) {
	var has bool
	if err := a.any.QueryRowContext(ctx).Scan(&has); err != nil {
		return false, fmt.Errorf("looking for API keys: %w", err)
	}
	return has, nil
}

// RenameAPIKey implements cube.APIKeyStore.
func (a *APIKeys) RenameAPIKey(ctx context.Context, id cube.APIKeyID, name string) error {
	result, err := a.store.write.ExecContext(ctx, `UPDATE OR IGNORE api_keys SET name = ? WHERE id = ? AND revoked_at IS NULL`, name, id)
	if err != nil {
		return fmt.Errorf("renaming API key %s: %w", id, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	k, err := a.APIKey(ctx, id)
	switch {
	case err != nil:
		return err
	case !k.RevokedAt.IsZero():
		return errNoKey(id)
	}
	return errNameInUse(name)
}

// RevokeAPIKey implements cube.APIKeyStore.
func (a *APIKeys) RevokeAPIKey(ctx context.Context, id cube.APIKeyID, at time.Time, keep int) error {
	tx, err := a.store.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("revoking API key %s: %w", id, err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit there is nothing to undo
	result, err := tx.ExecContext(ctx, `UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL`, at.UnixMilli(), id)
	if err != nil {
		return fmt.Errorf("revoking API key %s: %w", id, err)
	}
	n, err := result.RowsAffected()
	switch {
	case err != nil:
		return err
	case n == 0:
		return errNoKey(id)
	}
	if _, err := tx.ExecContext(ctx, deleteRevokedSQL, keep, id); err != nil {
		return fmt.Errorf("deleting the rows of API keys that were revoked long ago: %w", err)
	}
	return tx.Commit()
}

func errNoKey(id cube.APIKeyID) error {
	return cube.Errorf(cube.NotFound, "API key %s not found", id)
}

func errNameInUse(name string) error {
	return cube.Errorf(cube.Conflict, "There is an API key named %q already: choose another name, or revoke it first", name)
}

func scanKey(row interface{ Scan(...any) error }) (cube.APIKey, error) {
	var (
		k                cube.APIKey
		hash, templates  []byte
		created          int64
		expires, revoked sql.NullInt64
	)
	err := row.Scan(&k.ID, &k.Name, &hash, &k.MaskStart, &k.MaskEnd, &k.Role, &k.Owner.Subject, &k.Owner.Team, &k.Operator,
		&templates, &created, &k.CreatedBy, &expires, &revoked)
	if err != nil {
		return cube.APIKey{}, err
	}
	if len(hash) != len(k.Hash) {
		return cube.APIKey{}, fmt.Errorf("the hash of API key %s has %d bytes instead of %d", k.ID, len(hash), len(k.Hash))
	}
	k.Hash = [32]byte(hash)
	k.CreatedAt, k.ExpiresAt, k.RevokedAt = fromMilli(created), fromMilliOrNull(expires), fromMilliOrNull(revoked)
	if templates == nil {
		return k, nil
	}
	return k, json.Unmarshal(templates, &k.Templates)
}

// encodeTemplates keeps nil, which is all, apart from a list of none.
func encodeTemplates(templates []string) (sql.NullString, error) {
	if templates == nil {
		return sql.NullString{}, nil
	}
	b, err := json.Marshal(templates)
	return sql.NullString{String: string(b), Valid: true}, err
}

func milliOrNull(t time.Time) sql.NullInt64 {
	if t.IsZero() {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: true}
}

func fromMilliOrNull(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return fromMilli(ms.Int64)
}

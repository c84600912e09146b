package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"cube"
)

var _ cube.TemplateStore = (*Store)(nil)

const templateColumns = `id, owner_subject, owner_team, account, public, created_at, updated_at, last_spawned_at, spawn_count, build_count`

// inTransaction runs f in a transaction of the connection for writes.
func (s *Store) inTransaction(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// one tells whether a statement changed a row.
func one(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// CreateBuild implements cube.TemplateStore.
func (s *Store) CreateBuild(ctx context.Context, t cube.UserTemplate, b cube.Build) error {
	err := s.inTransaction(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO templates (`+templateColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 1)
			ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at, build_count = build_count + 1`,
			t.ID, t.Owner.Subject, t.Owner.Team, t.Account, t.Public, t.CreatedAt.UnixMilli(), t.UpdatedAt.UnixMilli())
		if err != nil {
			return err
		}
		for _, alias := range t.Aliases {
			var holder cube.TemplateID
			err := tx.QueryRowContext(ctx, `INSERT INTO template_aliases (namespace, alias, template) VALUES (?, ?, ?)
				ON CONFLICT DO UPDATE SET template = template RETURNING template`, t.Namespace, alias, t.ID).Scan(&holder)
			if err != nil {
				return err
			}
			if holder != t.ID {
				return cube.Errorf(cube.Conflict, "Alias '%s' is already used", alias)
			}
		}
		return insertBuild(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("writing the row of build %s: %w", b.ID, err)
	}
	return nil
}

func errNoTemplate(id cube.TemplateID) error {
	return cube.Errorf(cube.NotFound, "Template %s not found", id)
}

// UserTemplate implements cube.TemplateStore.
func (s *Store) UserTemplate(ctx context.Context, id cube.TemplateID) (cube.UserTemplate, error) {
	return s.template(ctx, `id = ?`, id)
}

// TemplateByAlias implements cube.TemplateStore.
func (s *Store) TemplateByAlias(ctx context.Context, namespace, alias string) (cube.UserTemplate, error) {
	return s.template(ctx, `id = (SELECT template FROM template_aliases WHERE namespace = ? AND alias = ?)`, namespace, alias)
}

func (s *Store) template(ctx context.Context, condition string, args ...any) (cube.UserTemplate, error) {
	list, err := s.listTemplates(ctx, ` WHERE `+condition, args...)
	if err != nil {
		return cube.UserTemplate{}, fmt.Errorf("reading the row of a template: %w", err)
	}
	if len(list) == 0 {
		return cube.UserTemplate{}, cube.Errorf(cube.NotFound, "Template not found")
	}
	return list[0], nil
}

// ListTemplates implements cube.TemplateStore.
func (s *Store) ListTemplates(ctx context.Context, q cube.TemplateQuery) ([]cube.UserTemplate, error) {
	var w where
	if q.Owner.Subject != "" {
		w.and(`owner_subject = ?`, q.Owner.Subject)
	}
	if q.Owner.Team != "" {
		w.and(`owner_team = ?`, q.Owner.Team)
	}
	if q.After != nil {
		w.and(`(created_at, id) < (?, ?)`, q.After.CreatedAt.UnixMilli(), q.After.ID)
	}
	rest := w.String() + ` ORDER BY created_at DESC, id DESC`
	if q.Limit > 0 {
		rest += ` LIMIT ?`
		w.args = append(w.args, q.Limit)
	}
	list, err := s.listTemplates(ctx, rest, w.args...)
	if err != nil {
		return nil, fmt.Errorf("listing templates: %w", err)
	}
	return list, nil
}

// listTemplates reads templates with their aliases and their newest builds, of one
// moment.
func (s *Store) listTemplates(ctx context.Context, rest string, args ...any) ([]cube.UserTemplate, error) {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to undo
	rows, err := tx.QueryContext(ctx, `SELECT `+templateColumns+` FROM templates`+rest, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []cube.UserTemplate
	for rows.Next() {
		t, err := scanTemplate(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i := range list {
		if err := complete(ctx, tx, &list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// complete adds what other tables hold of a template.
func complete(ctx context.Context, tx *sql.Tx, t *cube.UserTemplate) error {
	rows, err := tx.QueryContext(ctx, `SELECT namespace, alias FROM template_aliases WHERE template = ? ORDER BY alias`, t.ID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var alias string
		if err := rows.Scan(&t.Namespace, &alias); err != nil {
			return err
		}
		t.Aliases = append(t.Aliases, alias)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	builds, err := listBuilds(ctx, tx, ` WHERE template = ? ORDER BY created_at DESC, id DESC LIMIT 1`, t.ID)
	if err == nil && len(builds) > 0 {
		t.Latest = builds[0]
	}
	return err
}

func scanTemplate(row interface{ Scan(...any) error }) (cube.UserTemplate, error) {
	var t cube.UserTemplate
	var created, updated, spawned int64
	err := row.Scan(&t.ID, &t.Owner.Subject, &t.Owner.Team, &t.Account, &t.Public, &created, &updated, &spawned, &t.SpawnCount, &t.BuildCount)
	t.CreatedAt, t.UpdatedAt, t.LastSpawnedAt = fromMilli(created), fromMilli(updated), maybeMilli(spawned)
	return t, err
}

// maybeMilli is the zero time for 0.
func maybeMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return fromMilli(ms)
}

func toMaybeMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// CountTemplates implements cube.TemplateStore.
func (s *Store) CountTemplates(ctx context.Context, account string) (n int, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM templates WHERE account = ?`, account).Scan(&n)
	return n, err
}

// SetTemplatePublic implements cube.TemplateStore.
func (s *Store) SetTemplatePublic(ctx context.Context, id cube.TemplateID, public bool, at time.Time) error {
	there, err := one(s.write.ExecContext(ctx, `UPDATE templates SET public = ?, updated_at = ? WHERE id = ?`, public, at.UnixMilli(), id))
	if err == nil && !there {
		return errNoTemplate(id)
	}
	return err
}

// DeleteTemplate implements cube.TemplateStore.
func (s *Store) DeleteTemplate(ctx context.Context, id cube.TemplateID) (freed []cube.SnapshotID, err error) {
	err = s.inTransaction(ctx, func(tx *sql.Tx) error {
		there, err := one(tx.ExecContext(ctx, `DELETE FROM templates WHERE id = ?`, id))
		if err != nil {
			return err
		}
		if !there {
			return errNoTemplate(id)
		}
		freed, err = snapshotIDs(ctx, tx, `SELECT snapshot FROM builds WHERE template = ?1 UNION SELECT base_snapshot FROM builds WHERE template = ?1`, id)
		if err != nil {
			return err
		}
		for _, statement := range []string{
			`DELETE FROM build_log WHERE build IN (SELECT id FROM builds WHERE template = ?)`,
			`DELETE FROM builds WHERE template = ?`,
			`DELETE FROM template_tags WHERE template = ?`,
			`DELETE FROM template_aliases WHERE template = ?`,
		} {
			if _, err := tx.ExecContext(ctx, statement, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("deleting template %s: %w", id, err)
	}
	return freed, nil
}

// snapshotIDs reads the column of a query, without those that are none.
func snapshotIDs(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]cube.SnapshotID, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []cube.SnapshotID
	for rows.Next() {
		var id cube.SnapshotID
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		if id != "" {
			ids = append(ids, id)
		}
	}
	return ids, rows.Err()
}

// AddSpawns implements cube.TemplateStore.
func (s *Store) AddSpawns(ctx context.Context, spawns map[cube.TemplateID]cube.Spawn) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		for id, spawn := range spawns {
			_, err := tx.ExecContext(ctx, `UPDATE templates SET spawn_count = spawn_count + ?, last_spawned_at = max(last_spawned_at, ?) WHERE id = ?`,
				spawn.Count, spawn.Last.UnixMilli(), id)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// TagBuild implements cube.TemplateStore.
func (s *Store) TagBuild(ctx context.Context, id cube.TemplateID, build cube.BuildID, tags []string, at time.Time) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM templates WHERE id = ?`, id).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return errNoTemplate(id)
		}
		return assignTags(ctx, tx, id, build, tags, at)
	})
}

// assignTags has tags stand for a build, but for those that were assigned later.
func assignTags(ctx context.Context, tx *sql.Tx, id cube.TemplateID, build cube.BuildID, tags []string, at time.Time) error {
	for _, tag := range tags {
		_, err := tx.ExecContext(ctx, `INSERT INTO template_tags (template, tag, build, assigned_at) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET build = excluded.build, assigned_at = excluded.assigned_at WHERE assigned_at <= excluded.assigned_at`,
			id, tag, build, at.UnixMilli())
		if err != nil {
			return err
		}
	}
	return nil
}

// Untag implements cube.TemplateStore.
func (s *Store) Untag(ctx context.Context, id cube.TemplateID, tags []string) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		for _, tag := range tags {
			if _, err := tx.ExecContext(ctx, `DELETE FROM template_tags WHERE template = ? AND tag = ?`, id, tag); err != nil {
				return err
			}
		}
		return nil
	})
}

// Tags implements cube.TemplateStore.
func (s *Store) Tags(ctx context.Context, id cube.TemplateID) ([]cube.Tag, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT tag, build, assigned_at FROM template_tags WHERE template = ? ORDER BY assigned_at DESC, tag`, id)
	if err != nil {
		return nil, fmt.Errorf("reading the tags of template %s: %w", id, err)
	}
	defer rows.Close()
	var list []cube.Tag
	for rows.Next() {
		var t cube.Tag
		var at int64
		if err := rows.Scan(&t.Name, &t.Build, &at); err != nil {
			return nil, fmt.Errorf("reading the tags of template %s: %w", id, err)
		}
		t.AssignedAt = fromMilli(at)
		list = append(list, t)
	}
	return list, rows.Err()
}

// Layer implements cube.TemplateStore.
func (s *Store) Layer(ctx context.Context, key string, at time.Time) (id cube.SnapshotID, err error) {
	err = s.write.QueryRowContext(ctx, `UPDATE build_layers SET last_used = max(last_used, ?) WHERE key = ? RETURNING snapshot`, at.UnixMilli(), key).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", cube.Errorf(cube.NotFound, "There is no layer of this key")
	}
	return id, err
}

// PutLayer implements cube.TemplateStore.
func (s *Store) PutLayer(ctx context.Context, key string, id cube.SnapshotID, at time.Time) (replaced cube.SnapshotID, err error) {
	err = s.inTransaction(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT snapshot FROM build_layers WHERE key = ?`, key).Scan(&replaced)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO build_layers (key, snapshot, last_used) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET snapshot = excluded.snapshot, last_used = excluded.last_used`, key, id, at.UnixMilli())
		return err
	})
	return replaced, err
}

// DropLayers implements cube.TemplateStore.
func (s *Store) DropLayers(ctx context.Context, before time.Time, keep int) (dropped []cube.SnapshotID, err error) {
	err = s.inTransaction(ctx, func(tx *sql.Tx) error {
		dropped, err = snapshotIDs(ctx, tx, `DELETE FROM build_layers WHERE last_used < ?1 OR key IN (
			SELECT key FROM build_layers ORDER BY last_used DESC, key LIMIT -1 OFFSET ?2) RETURNING snapshot`, before.UnixMilli(), keep)
		return err
	})
	return dropped, err
}

// TemplateSnapshots implements cube.TemplateStore.
func (s *Store) TemplateSnapshots(ctx context.Context) (map[cube.SnapshotID]bool, error) {
	all := map[cube.SnapshotID]bool{}
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to undo
	ids, err := snapshotIDs(ctx, tx, `SELECT snapshot FROM builds UNION SELECT base_snapshot FROM builds UNION SELECT snapshot FROM build_layers`)
	for _, id := range ids {
		all[id] = true
	}
	return all, err
}

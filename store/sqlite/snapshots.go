package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"cube"
)

const snapshotColumns = `id, name, tag, sandbox, template, alias, cpus, memory_mb, disk_mb, pids,
	created_at, owner_subject, owner_team, memory, bytes, host_key, env_vars, default_user, default_workdir, account`

// CreateSnapshot implements cube.Store.
func (s *Store) CreateSnapshot(ctx context.Context, snapshot cube.Snapshot, replaces []cube.SnapshotID) error {
	err := s.durably(ctx, func(conn *sql.Conn) error {
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after Commit
		for _, id := range replaces {
			if _, err := tx.ExecContext(ctx, `DELETE FROM snapshots WHERE id = ?`, id); err != nil {
				return err
			}
		}
		if err := insertSnapshot(ctx, tx, snapshot); err != nil {
			return err
		}
		return tx.Commit()
	})
	if err != nil {
		return fmt.Errorf("writing the row of snapshot %s: %w", snapshot.ID, err)
	}
	return nil
}

func insertSnapshot(ctx context.Context, tx *sql.Tx, s cube.Snapshot) error {
	envVars, err := encodePairs(s.EnvVars)
	if err != nil {
		return err
	}
	r := s.Resources
	result, err := tx.ExecContext(ctx, `INSERT INTO snapshots (`+snapshotColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		s.ID, s.Name, s.Tag, s.Sandbox, s.Template, s.Alias, r.CPUs, r.MemoryMB, r.DiskMB, r.Pids,
		s.CreatedAt.UnixMilli(), s.Owner.Subject, s.Owner.Team, s.Memory, s.Bytes, s.HostKey, envVars, s.User, s.Workdir, s.Account)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		return cube.Errorf(cube.Conflict, "The id %s is in use", s.ID)
	}
	return err
}

// Snapshot implements cube.Store.
func (s *Store) Snapshot(ctx context.Context, id cube.SnapshotID) (cube.Snapshot, error) {
	snapshot, err := scanSnapshot(s.read.QueryRowContext(ctx, `SELECT `+snapshotColumns+` FROM snapshots WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return cube.Snapshot{}, errNoSnapshot(id)
	}
	if err != nil {
		return cube.Snapshot{}, fmt.Errorf("reading the row of snapshot %s: %w", id, err)
	}
	return snapshot, nil
}

func errNoSnapshot(id cube.SnapshotID) error {
	return cube.Errorf(cube.NotFound, "Snapshot %s not found", id)
}

// ListSnapshots implements cube.Store.
func (s *Store) ListSnapshots(ctx context.Context, q cube.SnapshotQuery) ([]cube.Snapshot, error) {
	list, err := s.listSnapshots(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("listing snapshots: %w", err)
	}
	return list, nil
}

func (s *Store) listSnapshots(ctx context.Context, q cube.SnapshotQuery) ([]cube.Snapshot, error) {
	var w where
	for _, equal := range []struct{ column, value string }{
		{"owner_subject", q.Owner.Subject}, {"owner_team", q.Owner.Team},
		{"sandbox", string(q.Sandbox)}, {"name", q.Name}, {"tag", q.Tag},
	} {
		if equal.value != "" {
			w.and(equal.column+` = ?`, equal.value)
		}
	}
	if q.After != nil {
		w.and(`(created_at, id) < (?, ?)`, q.After.CreatedAt.UnixMilli(), q.After.ID)
	}
	query := `SELECT ` + snapshotColumns + ` FROM snapshots` + w.String() + ` ORDER BY created_at DESC, id DESC`
	if q.Limit > 0 {
		query += ` LIMIT ?`
		w.args = append(w.args, q.Limit)
	}
	rows, err := s.read.QueryContext(ctx, query, w.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []cube.Snapshot
	for rows.Next() {
		snapshot, err := scanSnapshot(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, snapshot)
	}
	return list, rows.Err()
}

// DeleteSnapshot implements cube.Store.
func (s *Store) DeleteSnapshot(ctx context.Context, id cube.SnapshotID) error {
	result, err := s.write.ExecContext(ctx, `DELETE FROM snapshots WHERE id = ?`, id)
	if err != nil {
		return fmt.Errorf("deleting the row of snapshot %s: %w", id, err)
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		return errNoSnapshot(id)
	}
	return err
}

func scanSnapshot(row interface{ Scan(...any) error }) (cube.Snapshot, error) {
	var (
		s       cube.Snapshot
		created int64
		envVars []byte
	)
	err := row.Scan(&s.ID, &s.Name, &s.Tag, &s.Sandbox, &s.Template, &s.Alias,
		&s.Resources.CPUs, &s.Resources.MemoryMB, &s.Resources.DiskMB, &s.Resources.Pids,
		&created, &s.Owner.Subject, &s.Owner.Team, &s.Memory, &s.Bytes, &s.HostKey, &envVars, &s.User, &s.Workdir, &s.Account)
	if err != nil {
		return cube.Snapshot{}, err
	}
	s.CreatedAt = fromMilli(created)
	return s, json.Unmarshal(envVars, &s.EnvVars)
}

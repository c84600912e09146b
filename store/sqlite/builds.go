package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"cube"
)

const buildColumns = `id, template, tags, status, failed_step, failed_message, cpus, memory_mb, disk_mb, pids,
	created_at, updated_at, finished_at, spec, snapshot, memory, host_key, env_vars, default_user, default_workdir,
	base_snapshot, base`

func insertBuild(ctx context.Context, tx *sql.Tx, b cube.Build) error {
	tags, err := json.Marshal(b.Tags)
	if err != nil {
		return err
	}
	envVars, err := encodePairs(b.Defaults.EnvVars)
	if err != nil {
		return err
	}
	r := b.Resources
	there, err := one(tx.ExecContext(ctx, `INSERT INTO builds (`+buildColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		b.ID, b.Template, string(tags), b.Status, b.Failure.Step, b.Failure.Message, r.CPUs, r.MemoryMB, r.DiskMB, r.Pids,
		b.CreatedAt.UnixMilli(), b.UpdatedAt.UnixMilli(), toMaybeMilli(b.FinishedAt), b.Spec, b.Snapshot, b.Memory, b.HostKey,
		envVars, b.Defaults.User, b.Defaults.Workdir, b.BaseSnapshot, b.Base))
	if err == nil && !there {
		return cube.Errorf(cube.Conflict, "The id %s is in use", b.ID)
	}
	return err
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func listBuilds(ctx context.Context, db querier, rest string, args ...any) ([]cube.Build, error) {
	rows, err := db.QueryContext(ctx, `SELECT `+buildColumns+` FROM builds`+rest, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []cube.Build
	for rows.Next() {
		b, err := scanBuild(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, rows.Err()
}

func scanBuild(row interface{ Scan(...any) error }) (cube.Build, error) {
	var (
		b                          cube.Build
		tags, envVars              []byte
		created, updated, finished int64
	)
	err := row.Scan(&b.ID, &b.Template, &tags, &b.Status, &b.Failure.Step, &b.Failure.Message,
		&b.Resources.CPUs, &b.Resources.MemoryMB, &b.Resources.DiskMB, &b.Resources.Pids,
		&created, &updated, &finished, &b.Spec, &b.Snapshot, &b.Memory, &b.HostKey,
		&envVars, &b.Defaults.User, &b.Defaults.Workdir, &b.BaseSnapshot, &b.Base)
	if err != nil {
		return b, err
	}
	b.CreatedAt, b.UpdatedAt, b.FinishedAt = fromMilli(created), fromMilli(updated), maybeMilli(finished)
	if err := json.Unmarshal(tags, &b.Tags); err != nil {
		return b, err
	}
	return b, json.Unmarshal(envVars, &b.Defaults.EnvVars)
}

// Build implements cube.TemplateStore.
func (s *Store) Build(ctx context.Context, id cube.BuildID) (cube.Build, error) {
	return s.build(ctx, ` WHERE id = ?`, id)
}

// BuildByTag implements cube.TemplateStore.
func (s *Store) BuildByTag(ctx context.Context, id cube.TemplateID, tag string) (cube.Build, error) {
	return s.build(ctx, ` WHERE id = (SELECT build FROM template_tags WHERE template = ? AND tag = ?)`, id, tag)
}

func (s *Store) build(ctx context.Context, rest string, args ...any) (cube.Build, error) {
	list, err := listBuilds(ctx, s.read, rest, args...)
	if err != nil {
		return cube.Build{}, fmt.Errorf("reading the row of a build: %w", err)
	}
	if len(list) == 0 {
		return cube.Build{}, cube.Errorf(cube.NotFound, "Build not found")
	}
	return list[0], nil
}

// ListBuilds implements cube.TemplateStore.
func (s *Store) ListBuilds(ctx context.Context, id cube.TemplateID, after *cube.TemplateCursor, limit int) ([]cube.Build, error) {
	var w where
	w.and(`template = ?`, id)
	if after != nil {
		w.and(`(created_at, id) < (?, ?)`, after.CreatedAt.UnixMilli(), after.ID)
	}
	rest := w.String() + ` ORDER BY created_at DESC, id DESC`
	if limit > 0 {
		rest += ` LIMIT ?`
		w.args = append(w.args, limit)
	}
	list, err := listBuilds(ctx, s.read, rest, w.args...)
	if err != nil {
		return nil, fmt.Errorf("listing the builds of template %s: %w", id, err)
	}
	return list, nil
}

// UnfinishedBuilds implements cube.TemplateStore.
func (s *Store) UnfinishedBuilds(ctx context.Context) ([]cube.Build, error) {
	list, err := listBuilds(ctx, s.read, ` WHERE status IN ('waiting', 'building') ORDER BY created_at, id`)
	if err != nil {
		return nil, fmt.Errorf("listing the builds that are not finished: %w", err)
	}
	return list, nil
}

const updateBuildSQL = `UPDATE builds SET status = ?, failed_step = ?, failed_message = ?, updated_at = ?, finished_at = ?,
	spec = ?, snapshot = ?, memory = ?, host_key = ?, env_vars = ?, default_user = ?, default_workdir = ?, base_snapshot = ?, base = ?
	WHERE id = ? AND status = ?`

// UpdateBuild implements cube.TemplateStore.
func (s *Store) UpdateBuild(ctx context.Context, from cube.BuildStatus, b cube.Build) error {
	envVars, err := encodePairs(b.Defaults.EnvVars)
	if err != nil {
		return err
	}
	err = s.durably(ctx, func(conn *sql.Conn) error {
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after Commit
		there, err := one(tx.ExecContext(ctx, updateBuildSQL, b.Status, b.Failure.Step, b.Failure.Message,
			b.UpdatedAt.UnixMilli(), toMaybeMilli(b.FinishedAt), b.Spec, b.Snapshot, b.Memory, b.HostKey,
			envVars, b.Defaults.User, b.Defaults.Workdir, b.BaseSnapshot, b.Base, b.ID, from))
		if err != nil {
			return err
		}
		if !there {
			return errStatus(ctx, tx, b.ID, from)
		}
		if b.Status == cube.BuildReady && from != cube.BuildReady {
			if err := becomeTagged(ctx, tx, b.ID); err != nil {
				return err
			}
		}
		return tx.Commit()
	})
	if err != nil {
		return fmt.Errorf("updating the row of build %s: %w", b.ID, err)
	}
	return nil
}

func errStatus(ctx context.Context, tx *sql.Tx, id cube.BuildID, from cube.BuildStatus) error {
	var is cube.BuildStatus
	err := tx.QueryRowContext(ctx, `SELECT status FROM builds WHERE id = ?`, id).Scan(&is)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return cube.Errorf(cube.NotFound, "Build %s not found", id)
	case err != nil:
		return err
	}
	return cube.Errorf(cube.Conflict, "Build %s is %s, not %s", id, is, from)
}

// becomeTagged gives a build the tags that it was asked for with.
func becomeTagged(ctx context.Context, tx *sql.Tx, id cube.BuildID) error {
	list, err := listBuilds(ctx, tx, ` WHERE id = ?`, id)
	if err != nil || len(list) == 0 {
		return err
	}
	b := list[0]
	return assignTags(ctx, tx, b.Template, b.ID, b.Tags, b.CreatedAt)
}

// DropBuilds implements cube.TemplateStore.
func (s *Store) DropBuilds(ctx context.Context, id cube.TemplateID, keep int) (freed []cube.SnapshotID, err error) {
	err = s.inTransaction(ctx, func(tx *sql.Tx) error {
		old, err := listBuilds(ctx, tx, ` WHERE template = ?1 AND status = 'ready' AND snapshot <> ''
			AND id NOT IN (SELECT build FROM template_tags WHERE template = ?1)
			ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?2`, id, keep)
		if err != nil {
			return err
		}
		for _, b := range old {
			if _, err := tx.ExecContext(ctx, `UPDATE builds SET snapshot = '', base_snapshot = '', host_key = '' WHERE id = ?`, b.ID); err != nil {
				return err
			}
			for _, snapshot := range []cube.SnapshotID{b.Snapshot, b.BaseSnapshot} {
				if snapshot != "" && !slices.Contains(freed, snapshot) {
					freed = append(freed, snapshot)
				}
			}
		}
		return nil
	})
	return freed, err
}

// buildLevels are those of a build's log, the least first.
var buildLevels = []string{"debug", "info", "warn", "error"}

// AddBuildLog implements cube.TemplateStore.
func (s *Store) AddBuildLog(ctx context.Context, id cube.BuildID, lines []cube.LogEntry) error {
	err := s.inTransaction(ctx, func(tx *sql.Tx) error {
		for _, line := range lines {
			_, err := tx.ExecContext(ctx, `INSERT INTO build_log (build, at, level, message, step) SELECT id, ?, ?, ?, ? FROM builds WHERE id = ?`,
				line.Time.UnixMilli(), max(0, slices.Index(buildLevels, line.Level)), line.Message, line.Step, id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing the log of build %s: %w", id, err)
	}
	return nil
}

// BuildLog implements cube.TemplateStore.
func (s *Store) BuildLog(ctx context.Context, id cube.BuildID, q cube.BuildLogQuery) ([]cube.LogEntry, error) {
	var w where
	w.and(`build = ?`, id)
	order, compare := "ASC", ">="
	if q.Backward {
		order, compare = "DESC", "<="
	}
	if !q.From.IsZero() {
		w.and(`at `+compare+` ?`, q.From.UnixMilli())
	}
	if q.Level != "" {
		w.and(`level >= ?`, slices.Index(buildLevels, q.Level))
	}
	rows, err := s.read.QueryContext(ctx, `SELECT at, level, message, step FROM build_log`+w.String()+
		` ORDER BY id `+order+` LIMIT ? OFFSET ?`, append(w.args, q.Limit, q.Offset)...)
	if err != nil {
		return nil, fmt.Errorf("reading the log of build %s: %w", id, err)
	}
	defer rows.Close()
	var list []cube.LogEntry
	for rows.Next() {
		var line cube.LogEntry
		var at int64
		var level int
		if err := rows.Scan(&at, &level, &line.Message, &line.Step); err != nil {
			return nil, fmt.Errorf("reading the log of build %s: %w", id, err)
		}
		line.Time, line.Level = fromMilli(at), buildLevels[level]
		list = append(list, line)
	}
	return list, rows.Err()
}

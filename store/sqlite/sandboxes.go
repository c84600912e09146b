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
	columns = `id, template, alias, state, started_at, end_at, cpus, memory_mb, disk_mb, pids,
		metadata, access_token, host_key, traffic_token, internet, owner_subject, owner_team, account,
		env_vars, expiry_pause, expiry_memory, expiry_resume, first_timeout, snapshot, snapshot_memory,
		end_reason, ended_at, ended_by, end_detail, default_user, default_workdir, network, ingress`

	insertSQL = `INSERT INTO sandboxes (` + columns + `, idempotency_key, idempotency_hash)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`

	// A row that never ran gives its key free; one of a sandbox that is gone has no
	// more of it than tells of its end.
	updateSQL = `UPDATE sandboxes SET state = ?1, end_at = ?2,
			end_reason = ?3, ended_at = ?4, ended_by = ?5, end_detail = ?6,
			expiry_pause = ?9, expiry_memory = ?10, expiry_resume = ?11, first_timeout = ?12,
			snapshot = ?13, snapshot_memory = ?14, internet = ?15,
			network = iif(?1 = 'gone', '{}', ?16),
			env_vars = iif(?1 = 'gone', '{}', env_vars), metadata = iif(?1 = 'gone', '{}', metadata),
			idempotency_key = iif(state = 'starting' AND ?1 = 'killing', NULL, idempotency_key)
		WHERE id = ?7 AND state = ?8`

	deleteGoneSQL = `DELETE FROM sandboxes WHERE state = 'gone' AND (ended_at < ?1 OR id IN (
			SELECT id FROM sandboxes WHERE state = 'gone'
			ORDER BY ended_at DESC, id DESC LIMIT -1 OFFSET ?2))`
)

// CreateSandbox implements cube.Store.
func (s *Store) CreateSandbox(ctx context.Context, sandbox cube.Sandbox, key *cube.Idempotency) error {
	metadata, err := encodePairs(sandbox.Metadata)
	if err != nil {
		return err
	}
	envVars, err := encodePairs(sandbox.EnvVars)
	if err != nil {
		return err
	}
	network, err := json.Marshal(sandbox.Network)
	if err != nil {
		return err
	}
	ingress, err := json.Marshal(sandbox.Ingress)
	if err != nil {
		return err
	}
	end := endOf(sandbox)
	var keyName sql.NullString
	var keyHash []byte
	if key != nil {
		keyName, keyHash = sql.NullString{String: key.Key, Valid: true}, key.BodyHash[:]
	}
	r, x := sandbox.Resources, sandbox.Expiry
	result, err := s.insert.ExecContext(ctx,
		sandbox.ID, sandbox.Template, sandbox.Alias, sandbox.State,
		sandbox.StartedAt.UnixMilli(), sandbox.EndAt.UnixMilli(),
		r.CPUs, r.MemoryMB, r.DiskMB, r.Pids,
		metadata, sandbox.AccessToken, sandbox.HostKey, sandbox.TrafficToken, sandbox.Internet,
		sandbox.Owner.Subject, sandbox.Owner.Team, sandbox.Account,
		envVars, x.Pause, x.Memory, x.Resume, x.Timeout.Milliseconds(), sandbox.Snapshot, sandbox.SnapshotMemory,
		end.reason, end.at, end.by, end.detail, sandbox.User, sandbox.Workdir, string(network), string(ingress), keyName, keyHash)
	if err != nil {
		return fmt.Errorf("writing the row of sandbox %s: %w", sandbox.ID, err)
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		return cube.Errorf(cube.Conflict, "The id %s or its Idempotency-Key is in use", sandbox.ID)
	}
	return err
}

// UpdateSandbox implements cube.Store.
func (s *Store) UpdateSandbox(ctx context.Context, from cube.State, sandbox cube.Sandbox) error {
	end, x := endOf(sandbox), sandbox.Expiry
	network, err := json.Marshal(sandbox.Network)
	if err != nil {
		return err
	}
	args := []any{
		sandbox.State, sandbox.EndAt.UnixMilli(),
		end.reason, end.at, end.by, end.detail, sandbox.ID, from,
		x.Pause, x.Memory, x.Resume, x.Timeout.Milliseconds(), sandbox.Snapshot, sandbox.SnapshotMemory,
		sandbox.Internet, string(network),
	}
	var result sql.Result
	if sandbox.State == cube.Paused || from == cube.Resuming {
		err = s.durably(ctx, func(conn *sql.Conn) error {
			result, err = conn.ExecContext(ctx, updateSQL, args...)
			return err
		})
	} else {
		result, err = s.update.ExecContext(ctx, args...)
	}
	if err != nil {
		return fmt.Errorf("updating the row of sandbox %s: %w", sandbox.ID, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	is, err := s.Sandbox(ctx, sandbox.ID)
	if err != nil {
		return err
	}
	return cube.Errorf(cube.Conflict, "Sandbox %s is %s, not %s", sandbox.ID, is.State, from)
}

// Sandbox implements cube.Store.
func (s *Store) Sandbox(ctx context.Context, id cube.SandboxID) (cube.Sandbox, error) {
	sandbox, err := scan(s.read.QueryRowContext(ctx, `SELECT `+columns+` FROM sandboxes WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return cube.Sandbox{}, cube.Errorf(cube.NotFound, "Sandbox %s not found", id)
	}
	if err != nil {
		return cube.Sandbox{}, fmt.Errorf("reading the row of sandbox %s: %w", id, err)
	}
	return sandbox, nil
}

// SandboxByKey implements cube.Store.
func (s *Store) SandboxByKey(ctx context.Context, key string) (cube.Sandbox, [32]byte, error) {
	var hash []byte
	row := s.read.QueryRowContext(ctx, `SELECT `+columns+`, idempotency_hash FROM sandboxes WHERE idempotency_key = ?`, key)
	sandbox, err := scan(row, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return cube.Sandbox{}, [32]byte{}, cube.Errorf(cube.NotFound, "No sandbox was made with this Idempotency-Key")
	}
	if err != nil {
		return cube.Sandbox{}, [32]byte{}, fmt.Errorf("reading the row of an idempotency key: %w", err)
	}
	if len(hash) != 32 {
		return cube.Sandbox{}, [32]byte{}, fmt.Errorf("the idempotency hash of sandbox %s has %d bytes instead of 32", sandbox.ID, len(hash))
	}
	return sandbox, [32]byte(hash), nil
}

// DeleteGone implements cube.Store.
func (s *Store) DeleteGone(ctx context.Context, endedBefore time.Time, keep int) (int, error) {
	result, err := s.write.ExecContext(ctx, deleteGoneSQL, endedBefore.UnixMilli(), keep)
	if err != nil {
		return 0, fmt.Errorf("deleting the rows of sandboxes that ended: %w", err)
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// scan reads the columns of one row, and behind them those of more.
func scan(row interface{ Scan(...any) error }, more ...any) (cube.Sandbox, error) {
	var (
		s              cube.Sandbox
		started, endAt int64
		timeout        int64
		metadata       []byte
		envVars        []byte
		network        []byte
		ingress        []byte
		end            endColumns
	)
	err := row.Scan(append([]any{
		&s.ID, &s.Template, &s.Alias, &s.State, &started, &endAt,
		&s.Resources.CPUs, &s.Resources.MemoryMB, &s.Resources.DiskMB, &s.Resources.Pids,
		&metadata, &s.AccessToken, &s.HostKey, &s.TrafficToken, &s.Internet,
		&s.Owner.Subject, &s.Owner.Team, &s.Account,
		&envVars, &s.Expiry.Pause, &s.Expiry.Memory, &s.Expiry.Resume, &timeout, &s.Snapshot, &s.SnapshotMemory,
		&end.reason, &end.at, &end.by, &end.detail, &s.User, &s.Workdir, &network, &ingress,
	}, more...)...)
	if err != nil {
		return cube.Sandbox{}, err
	}
	s.StartedAt, s.EndAt = fromMilli(started), fromMilli(endAt)
	s.Expiry.Timeout = time.Duration(timeout) * time.Millisecond
	if end.reason.Valid {
		s.End = &cube.End{
			Reason: cube.EndReason(end.reason.String),
			At:     fromMilli(end.at.Int64),
			By:     end.by.String,
			Detail: end.detail.String,
		}
	}
	if err := json.Unmarshal(metadata, &s.Metadata); err != nil {
		return cube.Sandbox{}, err
	}
	if err := json.Unmarshal(network, &s.Network); err != nil {
		return cube.Sandbox{}, err
	}
	if err := json.Unmarshal(ingress, &s.Ingress); err != nil {
		return cube.Sandbox{}, err
	}
	return s, json.Unmarshal(envVars, &s.EnvVars)
}

// endColumns are the four columns of a cube.End; all NULL for none.
type endColumns struct {
	reason sql.NullString
	at     sql.NullInt64
	by     sql.NullString
	detail sql.NullString
}

func endOf(s cube.Sandbox) endColumns {
	if s.End == nil {
		return endColumns{}
	}
	return endColumns{
		reason: sql.NullString{String: string(s.End.Reason), Valid: true},
		at:     sql.NullInt64{Int64: s.End.At.UnixMilli(), Valid: true},
		by:     sql.NullString{String: s.End.By, Valid: true},
		detail: sql.NullString{String: s.End.Detail, Valid: true},
	}
}

func encodePairs(m map[string]string) (string, error) {
	if len(m) == 0 {
		return "{}", nil
	}
	b, err := json.Marshal(m)
	return string(b), err
}

func fromMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

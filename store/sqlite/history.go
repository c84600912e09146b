package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"cube"
)

// Recorded is what was learned of one sandbox at one time.
type Recorded struct {
	Sandbox cube.SandboxID
	Metric  cube.Metric
	// Epoch and FirstSeq name the lines: their numbers follow each other.
	Epoch string
	Seqs  []uint64
	Lines []cube.LogLine
}

// atOnce is how many lines are written before others may write: what sandboxes
// print must not keep a create waiting.
const atOnce = 512

// AddHistory keeps what was learned, each sandbox's all or nothing. What is known
// already stays as it is. The newest lines stay: keepLines of each sandbox, and
// keepOfAll of all, those that ended included.
func (s *Store) AddHistory(ctx context.Context, all []Recorded, keepLines, keepOfAll int) error {
	for len(all) > 0 {
		n, lines := 0, 0
		for n < len(all) && lines < atOnce {
			lines += len(all[n].Lines)
			n++
		}
		if err := s.addSome(ctx, all[:n], keepLines, keepOfAll); err != nil {
			return fmt.Errorf("writing history: %w", err)
		}
		all = all[n:]
	}
	return nil
}

func (s *Store) addSome(ctx context.Context, some []Recorded, keepLines, keepOfAll int) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	for _, r := range some {
		if err := addHistory(ctx, tx, r, keepLines); err != nil {
			return err
		}
	}
	// By their ids, which follow each other: this looks at none that stays.
	if _, err := tx.ExecContext(ctx, `DELETE FROM log_lines WHERE id <= (SELECT max(id) FROM log_lines) - ?`, keepOfAll); err != nil {
		return err
	}
	return tx.Commit()
}

func addHistory(ctx context.Context, tx *sql.Tx, r Recorded, keepLines int) error {
	if m := r.Metric; !m.At.IsZero() {
		if _, err := tx.ExecContext(ctx, `INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			r.Sandbox, m.At.Unix(), m.CPUs, m.CPUUsedPct, m.MemoryUsed, m.MemoryTotal, m.MemoryCache, m.DiskUsed, m.DiskTotal); err != nil {
			return err
		}
	}
	for i, line := range r.Lines {
		fields, err := encodePairs(line.Fields)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO log_lines (sandbox, epoch, seq, at, level, message, fields) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			r.Sandbox, r.Epoch, int64(r.Seqs[i]), line.At.UnixMilli(), slices.Index(cube.LogLevels, line.Level), line.Message, fields); err != nil {
			return err
		}
	}
	if len(r.Lines) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM log_lines WHERE sandbox = ?1 AND id <= (
		SELECT id FROM log_lines WHERE sandbox = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`, r.Sandbox, keepLines)
	return err
}

// LastLine returns the epoch and the number of the newest line that is kept of a
// sandbox; "" and 0 if there is none.
func (s *Store) LastLine(ctx context.Context, id cube.SandboxID) (epoch string, seq uint64, err error) {
	var n int64
	err = s.read.QueryRowContext(ctx, `SELECT epoch, seq FROM log_lines WHERE sandbox = ? ORDER BY id DESC LIMIT 1`, id).Scan(&epoch, &n)
	if errors.Is(err, sql.ErrNoRows) {
		return "", 0, nil
	}
	return epoch, uint64(n), err
}

// Metrics returns those of a sandbox from one second to another, both included,
// the oldest first, and at most so many: the newest.
func (s *Store) Metrics(ctx context.Context, id cube.SandboxID, from, to time.Time, most int) ([]cube.Metric, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT at, cpus, cpu_used_pct, memory_used, memory_total, memory_cache, disk_used, disk_total
		FROM metrics WHERE sandbox = ? AND at BETWEEN ? AND ? ORDER BY at DESC LIMIT ?`, id, from.Unix(), to.Unix(), most)
	if err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	defer rows.Close()
	var list []cube.Metric
	for rows.Next() {
		var m cube.Metric
		var at int64
		if err := rows.Scan(&at, &m.CPUs, &m.CPUUsedPct, &m.MemoryUsed, &m.MemoryTotal, &m.MemoryCache, &m.DiskUsed, &m.DiskTotal); err != nil {
			return nil, fmt.Errorf("reading metrics: %w", err)
		}
		m.At = time.Unix(at, 0).UTC()
		list = append(list, m)
	}
	slices.Reverse(list)
	return list, rows.Err()
}

// LogLines returns the lines of a sandbox that match.
func (s *Store) LogLines(ctx context.Context, id cube.SandboxID, q cube.LogQuery) ([]cube.LogLine, error) {
	var w where
	w.and(`sandbox = ?`, id)
	order, compare := "ASC", ">="
	if q.Backward {
		order, compare = "DESC", "<="
	}
	if !q.From.IsZero() {
		w.and(`at `+compare+` ?`, q.From.UnixMilli())
	}
	if q.Level != "" {
		w.and(`level >= ?`, slices.Index(cube.LogLevels, q.Level))
	}
	if q.Search != "" {
		w.and(`instr(message, ?) > 0`, q.Search)
	}
	rows, err := s.read.QueryContext(ctx, `SELECT at, level, message, fields FROM log_lines`+w.String()+
		` ORDER BY at `+order+`, id `+order+` LIMIT ?`, append(w.args, q.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("reading logs: %w", err)
	}
	defer rows.Close()
	var list []cube.LogLine
	for rows.Next() {
		var line cube.LogLine
		var at int64
		var level int
		var fields []byte
		if err := rows.Scan(&at, &level, &line.Message, &fields); err != nil {
			return nil, fmt.Errorf("reading logs: %w", err)
		}
		line.At, line.Level = time.UnixMilli(at).UTC(), cube.LogLevels[level]
		if err := json.Unmarshal(fields, &line.Fields); err != nil {
			return nil, fmt.Errorf("reading logs: %w", err)
		}
		list = append(list, line)
	}
	return list, rows.Err()
}

// DeleteHistory removes what is older, and what belongs to sandboxes that no row
// knows any more.
func (s *Store) DeleteHistory(ctx context.Context, before time.Time) error {
	for _, statement := range []string{
		`DELETE FROM metrics WHERE at < ?1 / 1000 OR sandbox NOT IN (SELECT id FROM sandboxes)`,
		`DELETE FROM log_lines WHERE at < ?1 OR sandbox NOT IN (SELECT id FROM sandboxes)`,
	} {
		if _, err := s.write.ExecContext(ctx, statement, before.UnixMilli()); err != nil {
			return fmt.Errorf("removing old history: %w", err)
		}
	}
	return nil
}

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"cube"
)

// ListSandboxes implements cube.Store. The list and the total are of the same
// moment.
func (s *Store) ListSandboxes(ctx context.Context, q cube.SandboxQuery) ([]cube.Sandbox, int, error) {
	list, total, err := s.list(ctx, q)
	if err != nil {
		return nil, 0, fmt.Errorf("listing sandboxes: %w", err)
	}
	return list, total, nil
}

func (s *Store) list(ctx context.Context, q cube.SandboxQuery) ([]cube.Sandbox, int, error) {
	var w where
	if err := w.filter(q); err != nil {
		return nil, 0, err
	}
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to undo

	var total int
	err = tx.QueryRowContext(ctx, `SELECT count(*) FROM sandboxes`+w.String(), w.args...).Scan(&total)
	if err != nil {
		return nil, 0, err
	}
	query := `SELECT ` + columns + ` FROM sandboxes` + w.page(q)
	rows, err := tx.QueryContext(ctx, query, w.args...)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	var list []cube.Sandbox
	for rows.Next() {
		sandbox, err := scan(rows)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, sandbox)
	}
	return list, total, rows.Err()
}

// where collects conditions and their arguments, in the same order.
type where struct {
	conditions []string
	args       []any
}

func (w *where) and(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}

// filter adds what the total counts as well.
func (w *where) filter(q cube.SandboxQuery) error {
	if len(q.States) > 0 {
		states, err := json.Marshal(q.States)
		if err != nil {
			return err
		}
		w.and(`state IN (SELECT value FROM json_each(?))`, string(states))
	}
	if q.Template != "" {
		w.and(`template = ?`, q.Template)
	}
	if q.Owner.Subject != "" {
		w.and(`owner_subject = ?`, q.Owner.Subject)
	}
	if q.Owner.Team != "" {
		w.and(`owner_team = ?`, q.Owner.Team)
	}
	if !q.StartedAfter.IsZero() {
		w.and(`started_at >= ?`, q.StartedAfter.UnixMilli())
	}
	if len(q.Metadata) > 0 {
		pairs, err := encodePairs(q.Metadata)
		if err != nil {
			return err
		}
		// As many pairs of the row are wanted ones as there are wanted ones.
		w.and(`? = (SELECT count(*) FROM json_each(metadata) AS has
			JOIN json_each(?) AS wanted ON has.key = wanted.key AND has.value = wanted.value)`,
			len(q.Metadata), pairs)
	}
	return nil
}

// page adds the place to continue from and returns all that follows the table's
// name. The id has the direction of the time, so that both compare as one pair.
func (w *where) page(q cube.SandboxQuery) string {
	follows, direction := "<", "DESC"
	if q.Ascending {
		follows, direction = ">", "ASC"
	}
	if q.After != nil {
		w.and(`(started_at, id) `+follows+` (?, ?)`, q.After.StartedAt.UnixMilli(), q.After.ID)
	}
	clause := w.String() + ` ORDER BY started_at ` + direction + `, id ` + direction
	if q.Limit > 0 {
		clause += ` LIMIT ?`
		w.args = append(w.args, q.Limit)
	}
	return clause
}

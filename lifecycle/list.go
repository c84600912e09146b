package lifecycle

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube"
)

// MaxPage is the largest page of a list.
const MaxPage = 100

// Query selects and orders a list. The zero value of a field filters nothing.
type Query struct {
	Metadata map[string]string // every pair must be there
	// States are the wanted ones. Only running sandboxes are ever listed.
	States       []cube.State
	Template     string    // id or alias
	StartedAfter time.Time // at or after it
	Ascending    bool      // oldest first; else newest first
	Limit        int       // 1 to MaxPage
	Cursor       string    // NextCursor of the page before, "" for the first
}

// Page is a part of a list.
type Page struct {
	Sandboxes    []cube.Sandbox
	NextCursor   string // "" if there is no more
	TotalRunning int    // running sandboxes that match, of all pages
}

// List returns a page of the caller's running sandboxes, by their start and then their
// id. Sandboxes that start or end between two pages neither move nor repeat
// others. Kind: Invalid (limit or cursor).
func (s *Sandboxes) List(ctx context.Context, q Query) (Page, error) {
	if q.Limit < 1 || q.Limit > MaxPage {
		return Page{}, cube.Errorf(cube.Invalid, "The limit of a list must be 1 to %d", MaxPage)
	}
	after, err := parseCursor(q.Cursor)
	if err != nil {
		return Page{}, err
	}
	if len(q.States) > 0 && !slices.Contains(q.States, cube.Running) {
		return Page{}, nil
	}
	_, sees, err := s.owner(ctx)
	if err != nil {
		return Page{}, err
	}
	rows, total, err := s.store.ListSandboxes(ctx, cube.SandboxQuery{
		States:       []cube.State{cube.Running},
		Metadata:     q.Metadata,
		Template:     s.templateID(q.Template),
		Owner:        sees,
		StartedAfter: q.StartedAfter,
		Ascending:    q.Ascending,
		After:        after,
		Limit:        q.Limit + 1, // one more tells whether there is a next page
	})
	if err != nil {
		return Page{}, err
	}
	page := Page{Sandboxes: rows, TotalRunning: total}
	if len(rows) > q.Limit {
		page.Sandboxes = rows[:q.Limit]
		page.NextCursor = formatCursor(rows[q.Limit-1])
	}
	return page, nil
}

// templateID is the id of a template that a user names. A name that is not
// known stays as it is: a sandbox may be older than the list of templates.
func (s *Sandboxes) templateID(name string) cube.TemplateID {
	if t, ok := s.template(name); ok {
		return t.ID
	}
	return cube.TemplateID(name)
}

// maxCursor bounds what is decoded; cursors of ours are half as long.
const maxCursor = 100

// formatCursor encodes a sandbox's place in the order of lists.
func formatCursor(s cube.Sandbox) string {
	place := strconv.FormatInt(s.StartedAt.UnixMilli(), 10) + " " + string(s.ID)
	return base64.RawURLEncoding.EncodeToString([]byte(place))
}

// parseCursor decodes a cursor that came from outside; nil for "".
func parseCursor(cursor string) (*cube.SandboxCursor, error) {
	if cursor == "" {
		return nil, nil
	}
	invalid := cube.Errorf(cube.Invalid, "This is not the token of a next page: pass on the one that the last page came with, or none for the first page")
	if len(cursor) > maxCursor {
		return nil, invalid
	}
	place, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return nil, invalid
	}
	at, name, _ := strings.Cut(string(place), " ")
	ms, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return nil, invalid
	}
	id, err := cube.ParseSandboxID(name)
	if err != nil {
		return nil, invalid
	}
	return &cube.SandboxCursor{StartedAt: time.UnixMilli(ms).UTC(), ID: id}, nil
}

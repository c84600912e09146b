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
	// States are the wanted ones, Running and Paused; none for both. One that is
	// becoming either is listed as paused.
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

// List returns a page of the caller's running and paused sandboxes, by their start and then their
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
	_, sees, err := s.owner(ctx)
	if err != nil {
		return Page{}, err
	}
	query := cube.SandboxQuery{
		States:       rowStates(q.States),
		Metadata:     q.Metadata,
		Template:     s.templateID(ctx, q.Template),
		Owner:        sees,
		StartedAfter: q.StartedAfter,
		Ascending:    q.Ascending,
		After:        after,
		Limit:        q.Limit + 1, // one more tells whether there is a next page
	}
	if len(query.States) == 0 { // states that are never listed
		return Page{}, nil
	}
	rows, total, err := s.store.ListSandboxes(ctx, query)
	if err != nil {
		return Page{}, err
	}
	switch {
	case query.States[0] != cube.Running:
		total = 0
	case len(query.States) > 1:
		query.States, query.Limit = []cube.State{cube.Running}, 1
		if _, total, err = s.store.ListSandboxes(ctx, query); err != nil {
			return Page{}, err
		}
	}
	page := Page{Sandboxes: rows, TotalRunning: total}
	if len(rows) > q.Limit {
		page.Sandboxes = rows[:q.Limit]
		page.NextCursor = formatCursor(rows[q.Limit-1])
	}
	return page, nil
}

// rowStates are the states that rows have of the ones that are asked for.
func rowStates(asked []cube.State) []cube.State {
	var states []cube.State
	if len(asked) == 0 || slices.Contains(asked, cube.Running) {
		states = append(states, cube.Running)
	}
	if len(asked) == 0 || slices.Contains(asked, cube.Paused) {
		states = append(states, cube.Pausing, cube.Paused, cube.Resuming)
	}
	return states
}

// templateID is the id of a template that a user names. A name that is not
// known stays as it is: a sandbox may be older than the list of templates.
func (s *Sandboxes) templateID(ctx context.Context, name string) cube.TemplateID {
	if t, is, err := s.userTemplate(ctx, name); is && err == nil {
		return t.ID
	}
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
	ms, name, err := decodePlace(cursor)
	if err != nil {
		return nil, err
	}
	id, err := cube.ParseSandboxID(name)
	if err != nil {
		return nil, errBadCursor()
	}
	return &cube.SandboxCursor{StartedAt: time.UnixMilli(ms).UTC(), ID: id}, nil
}

func errBadCursor() error {
	return cube.Errorf(cube.Invalid, "This is not the token of a next page: pass on the one that the last page came with, or none for the first page")
}

// decodePlace reads a time in Unix milliseconds and an id.
func decodePlace(cursor string) (ms int64, id string, err error) {
	if len(cursor) > maxCursor {
		return 0, "", errBadCursor()
	}
	place, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, "", errBadCursor()
	}
	at, id, _ := strings.Cut(string(place), " ")
	if ms, err = strconv.ParseInt(at, 10, 64); err != nil {
		return 0, "", errBadCursor()
	}
	return ms, id, nil
}

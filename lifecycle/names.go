package lifecycle

import (
	"context"
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube"
)

// snapshotName is what a user calls a snapshot; tag is "" where none was given.
type snapshotName struct{ name, tag string }

var (
	namePattern       = regexp.MustCompile(`^[a-z0-9_-]{1,128}$`)
	tagPattern        = regexp.MustCompile(`^[a-z0-9_.-]{1,128}$`)
	snapshotIDPattern = regexp.MustCompile(`^s[a-z2-7]{24}$`)
)

func isSnapshotID(name string) bool { return snapshotIDPattern.MatchString(name) }

// parseSnapshotName reads "name" or "name:tag", in any case.
func parseSnapshotName(text string) (snapshotName, error) {
	name, tag, tagged := strings.Cut(strings.ToLower(text), ":")
	switch {
	case !namePattern.MatchString(name):
		return snapshotName{}, cube.Errorf(cube.Invalid, "Invalid name %.64q: a name has up to 128 characters of a-z, 0-9, - and _", name)
	case tagged && !tagPattern.MatchString(tag):
		return snapshotName{}, cube.Errorf(cube.Invalid, "Invalid tag %.64q: a tag has up to 128 characters of a-z, 0-9, -, _ and .", tag)
	}
	return snapshotName{name, tag}, nil
}

func errNoSnapshot(name string) error {
	return cube.Errorf(cube.NotFound, "Template or snapshot %.64q not found", name)
}

// findSnapshot finds a snapshot of the caller's by its id or its name. Kind:
// NotFound.
func (s *Sandboxes) findSnapshot(ctx context.Context, name string) (cube.Snapshot, error) {
	_, sees, err := s.owner(ctx)
	if err != nil {
		return cube.Snapshot{}, err
	}
	label, err := parseSnapshotName(name)
	if err != nil {
		return cube.Snapshot{}, errNoSnapshot(name)
	}
	if label.tag == "" {
		label.tag = cube.DefaultTag
	}
	list, err := s.namedSnapshots(ctx, label, sees)
	if err != nil {
		return cube.Snapshot{}, err
	}
	if len(list) == 0 {
		return cube.Snapshot{}, errNoSnapshot(name)
	}
	return list[0], nil
}

// namedSnapshots returns those that a name means, newest first; of any tag
// without one. owner has the fields set that must be the same.
func (s *Sandboxes) namedSnapshots(ctx context.Context, label snapshotName, owner cube.Owner) ([]cube.Snapshot, error) {
	if !isSnapshotID(label.name) {
		return s.store.ListSnapshots(ctx, cube.SnapshotQuery{Owner: owner, Name: label.name, Tag: label.tag})
	}
	snapshot, err := s.store.Snapshot(ctx, cube.SnapshotID(label.name))
	switch {
	case cube.KindOf(err) == cube.NotFound && err != nil:
		return nil, nil
	case err != nil:
		return nil, err
	case owner != (cube.Owner{}) && s.tenancy.Tenant(owner) != s.tenancy.Tenant(snapshot.Owner),
		label.tag != "" && label.tag != snapshot.Tag:
		return nil, nil
	}
	return []cube.Snapshot{snapshot}, nil
}

// tenantOf is the part of an owner that tells tenants apart, as stores compare
// it; the zero Owner without tenancy.
func tenantOf(t cube.Tenancy, o cube.Owner) cube.Owner {
	switch t {
	case cube.TenancySubject:
		return cube.Owner{Subject: o.Subject}
	case cube.TenancyTeam:
		return cube.Owner{Team: o.Team}
	case cube.TenancyOff:
	}
	return cube.Owner{}
}

// SnapshotQuery selects a list of snapshots. The zero value of a field filters
// nothing.
type SnapshotQuery struct {
	Sandbox cube.SandboxID
	Name    string // id or name, with or without a tag
	Tags    bool   // of a name without a tag every tag's, not the newest alone
	Limit   int    // 1 to MaxPage
	Cursor  string // the one that came with the page before, "" for the first
}

// ListSnapshots returns a page of the caller's snapshots, newest first, and the
// cursor of the next; "" if there is none. Kind: Invalid.
func (s *Sandboxes) ListSnapshots(ctx context.Context, q SnapshotQuery) (page []cube.Snapshot, next string, err error) {
	if q.Limit < 1 || q.Limit > MaxPage {
		return nil, "", cube.Errorf(cube.Invalid, "The limit of a list must be 1 to %d", MaxPage)
	}
	after, err := parseSnapshotCursor(q.Cursor)
	if err != nil {
		return nil, "", err
	}
	_, sees, err := s.owner(ctx)
	if err != nil {
		return nil, "", err
	}
	query := cube.SnapshotQuery{Owner: sees, Sandbox: q.Sandbox, After: after, Limit: q.Limit + 1}
	if q.Name != "" {
		label, err := parseSnapshotName(q.Name)
		if err != nil {
			return nil, "", err
		}
		if isSnapshotID(label.name) {
			list, err := s.namedSnapshots(ctx, label, sees)
			return slices.DeleteFunc(list, func(x cube.Snapshot) bool { return q.Sandbox != "" && x.Sandbox != q.Sandbox }), "", err
		}
		query.Name, query.Tag = label.name, label.tag
		if label.tag == "" && !q.Tags {
			query.Limit, q.Limit = 1, 1
		}
	}
	page, err = s.store.ListSnapshots(ctx, query)
	if len(page) > q.Limit {
		page = page[:q.Limit]
		last := page[q.Limit-1]
		next = base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(last.CreatedAt.UnixMilli(), 10) + " " + string(last.ID)))
	}
	return page, next, err
}

// parseSnapshotCursor decodes a cursor that came from outside; nil for "".
func parseSnapshotCursor(cursor string) (*cube.SnapshotCursor, error) {
	if cursor == "" {
		return nil, nil
	}
	at, id, err := decodePlace(cursor)
	if err != nil || !isSnapshotID(id) {
		return nil, errBadCursor()
	}
	return &cube.SnapshotCursor{CreatedAt: time.UnixMilli(at).UTC(), ID: cube.SnapshotID(id)}, nil
}

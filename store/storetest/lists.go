package storetest

import (
	"strings"
	"testing"
	"time"

	"cube"
)

func listOrder(t *testing.T, store cube.Store) {
	twin := row(4) // started with the third
	twin.StartedAt = row(3).StartedAt
	create(t, store, row(2), twin, row(1), row(3))
	wantList(t, store, cube.SandboxQuery{}, "4 3 2 1", 4)
	wantList(t, store, cube.SandboxQuery{Ascending: true}, "1 2 3 4", 4)
}

func listFilters(t *testing.T, store cube.Store) {
	other := row(4)
	other.Template, other.Alias = "other", ""
	both := row(5)
	both.Metadata = map[string]string{"owner": "ada", "job": "7"}
	bare := row(6)
	bare.Metadata = nil
	bare.Owner = cube.Owner{}
	other.Owner = cube.Owner{Subject: "bob", Team: "red"}
	create(t, store, starting(1), gone(2), row(3), other, both, bare)

	running := []cube.State{cube.Running}
	for _, test := range []struct {
		name  string
		query cube.SandboxQuery
		want  string
		total int
	}{
		{"all", cube.SandboxQuery{}, "6 5 4 3 2 1", 6},
		{"one state", cube.SandboxQuery{States: running}, "6 5 4 3", 4},
		{"two states", cube.SandboxQuery{States: []cube.State{cube.Starting, cube.Gone}}, "2 1", 2},
		{"a state that no row is in", cube.SandboxQuery{States: []cube.State{"other"}}, "", 0},
		{"a template", cube.SandboxQuery{Template: "other"}, "4", 1},
		{"an alias is no template", cube.SandboxQuery{Template: "small"}, "", 0},
		{"a subject", cube.SandboxQuery{States: running, Owner: cube.Owner{Subject: "ada"}}, "5 3", 2},
		{"a team", cube.SandboxQuery{States: running, Owner: cube.Owner{Team: "red"}}, "5 4 3", 3},
		{"a subject of another team", cube.SandboxQuery{Owner: cube.Owner{Subject: "ada", Team: "blue"}}, "", 0},
		{"one pair", cube.SandboxQuery{States: running, Metadata: map[string]string{"owner": "ada"}}, "5 4 3", 3},
		{"two pairs", cube.SandboxQuery{Metadata: map[string]string{"owner": "ada", "job": "7"}}, "5", 1},
		{"one pair of two", cube.SandboxQuery{Metadata: map[string]string{"owner": "ada", "job": "8"}}, "", 0},
		{"a value under another key", cube.SandboxQuery{Metadata: map[string]string{"job": "ada"}}, "", 0},
		{"a part of a value", cube.SandboxQuery{Metadata: map[string]string{"owner": "ad"}}, "", 0},
		{"started at or after", cube.SandboxQuery{StartedAfter: row(5).StartedAt}, "6 5", 2},
		{"a fraction of a millisecond later", cube.SandboxQuery{StartedAfter: row(5).StartedAt.Add(999 * time.Microsecond)}, "6 5", 2},
		{"a millisecond later", cube.SandboxQuery{StartedAfter: row(5).StartedAt.Add(time.Millisecond)}, "6", 1},
		{"everything at once", cube.SandboxQuery{States: running, Template: "base", Metadata: map[string]string{"owner": "ada"}, StartedAfter: row(3).StartedAt, Ascending: true, Limit: 1}, "3", 2},
	} {
		t.Run(test.name, func(t *testing.T) { wantList(t, store, test.query, test.want, test.total) })
	}
}

func strangeMetadata(t *testing.T, store cube.Store) {
	strange := []string{
		``, ` `, `"`, `\`, `'`, `%`, `a.b`, `$.a`, `[0]`, `a"b\c`, `<&>`, "\n\t\x7f",
		`é`, `🦉`, "\u2028", `null`, `1`, `true`, `{"a":1}`, strings.Repeat("x", 5000),
	}
	create(t, store, row(1))
	for i, text := range strange {
		s := row(i + 2)
		s.Metadata = map[string]string{text: "value", "key": text}
		create(t, store, s)
	}
	for _, text := range strange {
		for _, pairs := range []map[string]string{{text: "value"}, {"key": text}} {
			_, total := list(t, store, cube.SandboxQuery{Metadata: pairs})
			if total != 1 {
				t.Errorf("metadata %.40q finds %d rows, want 1", pairs, total)
			}
		}
	}
}

func pages(t *testing.T, store cube.Store) {
	create(t, store, row(1), row(2), row(3), row(4), row(5))
	for i := 6; i <= 8; i++ { // three that started at once
		s := row(i)
		s.StartedAt = row(6).StartedAt
		create(t, store, s)
	}
	for _, test := range []struct {
		ascending bool
		want      string
	}{
		{false, "8 7 6 5 4 3 2 1"},
		{true, "1 2 3 4 5 6 7 8"},
	} {
		for limit := 1; limit <= 9; limit++ {
			if got := walk(t, store, test.ascending, limit, nil); got != test.want {
				t.Errorf("pages of %d, ascending %t: [%s], want [%s]", limit, test.ascending, got, test.want)
			}
		}
	}
}

func pagesWhileAdding(t *testing.T, store cube.Store) {
	create(t, store, row(1), row(2), row(3), row(4))
	n := 4
	got := walk(t, store, false, 2, func() { n++; create(t, store, row(n)) })
	if want := "4 3 2 1"; got != want {
		t.Errorf("pages while newer rows are added: [%s], want [%s]", got, want)
	}
}

// walk reads all pages and returns the rows' numbers; between is called after each.
func walk(t *testing.T, store cube.Store, ascending bool, limit int, between func()) string {
	t.Helper()
	var all []string
	q := cube.SandboxQuery{Ascending: ascending, Limit: limit}
	for {
		rows, _, err := store.ListSandboxes(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) > limit {
			t.Fatalf("a page of %d rows, want at most %d", len(rows), limit)
		}
		for _, s := range rows {
			all = append(all, strings.TrimLeft(string(s.ID), "i0"))
		}
		if len(rows) < limit {
			return strings.Join(all, " ")
		}
		last := rows[len(rows)-1]
		q.After = &cube.SandboxCursor{StartedAt: last.StartedAt, ID: last.ID}
		if between != nil {
			between()
		}
	}
}

package lifecycle

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cube"
)

func TestListWalksThroughAllThatRun(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		var oldest []cube.SandboxID
		for range 7 {
			oldest = append(oldest, mustCreate(t, s).ID)
			time.Sleep(time.Second)
		}
		newest := slices.Clone(oldest)
		slices.Reverse(newest)
		for limit := 1; limit <= 8; limit++ {
			wantEqual(t, "newest first", walk(t, s, Query{Limit: limit}, nil), newest)
			wantEqual(t, "oldest first", walk(t, s, Query{Limit: limit, Ascending: true}, nil), oldest)
		}
	})
}

func TestPagesDoNotMoveWhileSandboxesComeAndGo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		var want []cube.SandboxID
		for range 6 {
			want = append(want, mustCreate(t, s).ID)
			time.Sleep(time.Second)
		}
		slices.Reverse(want)
		seen := 0
		got := walk(t, s, Query{Limit: 2}, func() {
			mustCreate(t, s)
			if err := s.Kill(t.Context(), want[seen], ""); err != nil { // one of a page that was read
				t.Fatal(err)
			}
			seen += 2
		})
		wantEqual(t, "all pages", got, want)
	})
}

// walk reads all pages; between is called before each but the first.
func walk(t *testing.T, s *Sandboxes, q Query, between func()) []cube.SandboxID {
	t.Helper()
	var all []cube.SandboxID
	for {
		page, err := s.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Sandboxes) > q.Limit {
			t.Fatalf("a page of %d with a limit of %d", len(page.Sandboxes), q.Limit)
		}
		all = append(all, ids(page.Sandboxes)...)
		if page.NextCursor == "" {
			return all
		}
		if between != nil {
			between()
		}
		q.Cursor = page.NextCursor
	}
}

func TestListFilters(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		names := map[cube.SandboxID]string{}
		add := func(name, template string, metadata map[string]string) {
			names[mustCreate(t, s, func(r *CreateRequest) { r.Template, r.Metadata = template, metadata }).ID] = name
			time.Sleep(time.Second)
		}
		begun := now()
		add("a", "base", map[string]string{"owner": "ada", "job": "1"})
		add("b", "base", map[string]string{"owner": "bob"})
		add("c", "plain", map[string]string{"owner": "ada"})
		add("d", "plain", nil)
		killed := mustCreate(t, s)
		if err := s.Kill(t.Context(), killed.ID, ""); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name  string
			query Query
			want  string
			total int
		}{
			{"nothing", Query{}, "d c b a", 4},
			{"a page", Query{Limit: 1}, "d", 4},
			{"metadata", Query{Metadata: map[string]string{"owner": "ada"}}, "c a", 2},
			{"all of its pairs", Query{Metadata: map[string]string{"owner": "ada", "job": "1"}}, "a", 1},
			{"template by id", Query{Template: "tbase"}, "b a", 2},
			{"template by alias", Query{Template: "small"}, "b a", 2},
			{"template that is not known", Query{Template: "other"}, "", 0},
			{"running", Query{States: []cube.State{cube.Running}}, "d c b a", 4},
			{"running or paused", Query{States: []cube.State{"paused", cube.Running}}, "d c b a", 4},
			{"paused", Query{States: []cube.State{"paused"}}, "", 0},
			{"gone ones are not listed", Query{States: []cube.State{cube.Gone}}, "", 0},
			{"start", Query{StartedAfter: begun.Add(2 * time.Second)}, "d c", 2},
			{"oldest first", Query{Ascending: true}, "a b c d", 4},
		} {
			if test.query.Limit == 0 {
				test.query.Limit = MaxPage
			}
			page, err := s.List(t.Context(), test.query)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, sandbox := range page.Sandboxes {
				got = append(got, names[sandbox.ID])
			}
			if list := strings.Join(got, " "); list != test.want || page.TotalRunning != test.total {
				t.Errorf("by %s: [%s] of %d, want [%s] of %d", test.name, list, page.TotalRunning, test.want, test.total)
			}
		}
	})
}

func TestListRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		for name, query := range map[string]Query{
			"a limit of 0":           {},
			"a negative limit":       {Limit: -1},
			"a limit above 100":      {Limit: 101},
			"a cursor of ours, cut":  {Limit: 1, Cursor: formatCursor(cube.Sandbox{ID: cube.NewSandboxID(), StartedAt: now()})[:20]},
			"a cursor of somebody":   {Limit: 1, Cursor: "eyJwYWdlIjoyfQ"},
			"a cursor without end":   {Limit: 1, Cursor: strings.Repeat("A", 1<<20)},
			"a cursor with newlines": {Limit: 1, Cursor: "\n"},
		} {
			if _, err := s.List(t.Context(), query); cube.KindOf(err) != cube.Invalid {
				t.Errorf("%s: %v, want an error of kind invalid", name, err)
			}
		}
	})
}

// Whatever a cursor holds, it is refused or means one place in the list.
func FuzzParseCursor(f *testing.F) {
	f.Add("")
	f.Add(formatCursor(cube.Sandbox{ID: cube.NewSandboxID(), StartedAt: now()}))
	f.Add("MSBpMDEyMzQ1Njc4OTAxMjM0NTY3ODk")
	f.Fuzz(func(t *testing.T, text string) {
		cursor, err := parseCursor(text)
		if err != nil {
			if cube.KindOf(err) != cube.Invalid {
				t.Errorf("error = %v, want one of kind invalid", err)
			}
			return
		}
		if cursor == nil {
			if text != "" {
				t.Errorf("%q means no place", text)
			}
			return
		}
		again, err := parseCursor(formatCursor(cube.Sandbox{ID: cursor.ID, StartedAt: cursor.StartedAt}))
		if err != nil || *again != *cursor {
			t.Errorf("%q is %+v, then %+v, %v", text, cursor, again, err)
		}
	})
}

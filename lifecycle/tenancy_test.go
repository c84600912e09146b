package lifecycle

import (
	"cmp"
	"context"
	"testing"
	"time"

	"cube"
)

// as returns a context of requests that an identity makes.
func as(t *testing.T, id cube.Identity) context.Context {
	return cube.WithIdentity(t.Context(), id)
}

var (
	ada      = cube.Identity{Subject: "ada", Team: "red"}
	alan     = cube.Identity{Subject: "alan", Team: "red"}
	bob      = cube.Identity{Subject: "bob", Team: "blue"}
	operator = cube.Identity{Subject: "root", Scopes: []string{cube.ScopeOperator}}
	stranger = cube.Identity{}
)

// touches calls every method that names a sandbox for a caller. The kill is last.
var touches = []struct {
	name string
	call func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error
}{
	{"get", func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error { _, err := s.Get(ctx, id); return err }},
	{"stats", func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error {
		_, err := s.Stats(ctx, id)
		return err
	}},
	{"extend", func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error {
		_, err := s.Extend(ctx, id, time.Hour)
		return err
	}},
	{"set the timeout", func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error {
		return s.SetTimeout(ctx, id, 2*time.Hour)
	}},
	{"snapshot", func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error {
		_, err := s.CreateSnapshot(ctx, id, "")
		return err
	}},
	{"fork", func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error {
		children, err := s.Fork(ctx, id, 1, time.Minute)
		for _, child := range children {
			if child.Err == nil {
				child.Err = s.Kill(ctx, child.Sandbox.ID, "x")
			}
			err = cmp.Or(err, child.Err)
		}
		return err
	}},
	{"pause", func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error { return s.Pause(ctx, id, true) }},
	{"resume", func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error {
		_, err := s.Resume(ctx, id, time.Hour, nil, true)
		return err
	}},
	{"connect", func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error {
		_, _, err := s.Connect(ctx, id, time.Hour, true)
		return err
	}},
	{"kill", func(ctx context.Context, s *Sandboxes, id cube.SandboxID) error { return s.Kill(ctx, id, "x") }},
}

func TestWhoMayTouchWhose(t *testing.T) {
	for _, row := range []struct {
		name    string
		tenancy cube.Tenancy
		owner   cube.Identity
		caller  cube.Identity
		want    cube.Kind // -1 for all is well
	}{
		{"without tenancy everybody", cube.TenancyOff, ada, stranger, -1},
		{"an owner", cube.TenancyTeam, ada, ada, -1},
		{"another of the team", cube.TenancyTeam, ada, alan, -1},
		{"another of the team, where each has their own", cube.TenancySubject, ada, alan, cube.NotFound},
		{"another team", cube.TenancyTeam, ada, bob, cube.NotFound},
		{"another subject", cube.TenancySubject, ada, bob, cube.NotFound},
		{"a name that is a team's", cube.TenancyTeam, ada, cube.Identity{Subject: "red"}, cube.Forbidden},
		{"nobody, by team", cube.TenancyTeam, ada, stranger, cube.Forbidden},
		{"nobody, by subject", cube.TenancySubject, ada, stranger, cube.Forbidden},
		{"the operator", cube.TenancyTeam, ada, operator, -1},
		{"a scope that looks like the operator's", cube.TenancyTeam, ada, cube.Identity{Team: "blue", Scopes: []string{"operator", "CUBE:OPERATOR"}}, cube.NotFound},
		{"a team, of what is the operator's", cube.TenancyTeam, operator, ada, cube.NotFound},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.config.Tenancy = row.tenancy
				s := w.server()
				created, err := s.Create(as(t, row.owner), CreateRequest{Template: "base", Timeout: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				id := created.Sandbox.ID
				for _, touch := range touches {
					err := touch.call(as(t, row.caller), s, id)
					if row.want == -1 && err != nil || row.want != -1 && (err == nil || cube.KindOf(err) != row.want) {
						t.Errorf("%s: error = %v, want kind %v", touch.name, err, row.want)
					}
				}
				if _, err := s.Get(as(t, operator), id); (err == nil) == (row.want == -1) {
					t.Errorf("afterwards: error = %v", err)
				}
			})
		})
	}
}

func TestAForeignSandboxIsAsOneThatIsNotThere(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.Tenancy = cube.TenancyTeam
		s := w.server()
		running, err := s.Create(as(t, ada), CreateRequest{Template: "base", Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		ended, err := s.Create(as(t, ada), CreateRequest{Template: "base", Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Kill(as(t, ada), ended.Sandbox.ID, "x"); err != nil {
			t.Fatal(err)
		}
		for _, id := range []cube.SandboxID{running.Sandbox.ID, ended.Sandbox.ID, cube.NewSandboxID()} {
			want := "Sandbox " + string(id) + " not found"
			for _, touch := range touches {
				if err := touch.call(as(t, bob), s, id); err == nil || err.Error() != want {
					t.Errorf("%s: error = %v, want %q", touch.name, err, want)
				}
			}
		}
	})
}

func TestAListHoldsTheTenantsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		of := func(id cube.Identity) []cube.SandboxID {
			s := w.server()
			defer s.Close()
			created, err := s.Create(as(t, id), CreateRequest{Template: "base", Timeout: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			return []cube.SandboxID{created.Sandbox.ID}
		}
		of(stranger) // before there was a tenancy
		w.config.Tenancy = cube.TenancyTeam
		for _, id := range []cube.Identity{ada, alan, bob, operator} {
			of(id)
		}
		s := w.server()
		for _, row := range []struct {
			name   string
			caller cube.Identity
			want   int
		}{
			{"red", ada, 2}, {"blue", bob, 1}, {"the operator", operator, 5}, {"an empty team", cube.Identity{Team: "green"}, 0},
		} {
			page, err := s.List(as(t, row.caller), Query{Limit: 1})
			if err != nil || page.TotalRunning != row.want || len(page.Sandboxes) != min(row.want, 1) || (page.NextCursor != "") != (row.want > 1) {
				t.Errorf("%s: %d of %d, next %q, %v; want a page of 1 of %d", row.name, len(page.Sandboxes), page.TotalRunning, page.NextCursor, err, row.want)
			}
		}
		if _, err := s.List(as(t, stranger), Query{Limit: 1}); cube.KindOf(err) != cube.Forbidden {
			t.Errorf("nobody: error = %v, want forbidden", err)
		}
		if _, err := s.Create(as(t, stranger), CreateRequest{Template: "base", Timeout: time.Hour}); cube.KindOf(err) != cube.Forbidden {
			t.Errorf("nobody creates: error = %v, want forbidden", err)
		}
	})
}

func TestEachTenantHasItsOwnIdempotencyKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.Tenancy = cube.TenancyTeam
		s := w.server()
		create := func(id cube.Identity, key string) (Created, error) {
			return s.Create(as(t, id), CreateRequest{Template: "base", Timeout: time.Minute, Idempotency: &Idempotency{Key: key}})
		}
		reds, err := create(ada, "k")
		if err != nil {
			t.Fatal(err)
		}
		blues, err := create(bob, "k")
		if err != nil || blues.Sandbox.ID == reds.Sandbox.ID {
			t.Fatalf("another team's: %v, %v; want a sandbox of its own", blues.Sandbox.ID, err)
		}
		again, err := create(alan, "k")
		if err != nil || again.Sandbox.ID != reds.Sandbox.ID {
			t.Errorf("the same team's: %v, %v; want %v", again.Sandbox.ID, err, reds.Sandbox.ID)
		}
		for _, key := range []string{"k", "red k"} {
			operators, err := create(operator, key)
			if err != nil || operators.Sandbox.ID == reds.Sandbox.ID {
				t.Errorf("the operator's %q: %v, %v; want a sandbox of its own", key, operators.Sandbox.ID, err)
			}
		}
	})
}

func TestAKeyOfBeforeTheTenancyIsNobodys(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		_, err := s.Create(t.Context(), CreateRequest{Template: "base", Timeout: time.Minute, Idempotency: &Idempotency{Key: "red k"}})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		w.config.Tenancy = cube.TenancyTeam
		_, err = w.server().Create(as(t, ada), CreateRequest{Template: "base", Timeout: time.Minute, Idempotency: &Idempotency{Key: "k"}})
		if cube.KindOf(err) != cube.Conflict {
			t.Errorf("error = %v, want a conflict", err)
		}
	})
}

func TestUnderTenancyEverySandboxIsSecured(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.Tenancy = cube.TenancySubject
		created, err := w.server().Create(as(t, ada), CreateRequest{Template: "base", Timeout: time.Minute, Secure: false})
		if err != nil || created.Sandbox.AccessToken == "" {
			t.Errorf("access token %q, %v; want one", created.Sandbox.AccessToken, err)
		}
	})
}

func TestACredentialMayBeForSomeTemplates(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		for _, row := range []struct {
			templates []string
			asked     string
			want      bool
		}{
			{nil, "base", true},
			{[]string{}, "base", false},
			{[]string{"plain"}, "base", false},
			{[]string{"base"}, "base", true},
			{[]string{"base"}, "base:default", true},
			{[]string{"tbase"}, "small", true},
			{[]string{"small"}, "tbase", true},
			{[]string{"Base"}, "base", false},
		} {
			_, err := s.Create(as(t, cube.Identity{Templates: row.templates}), CreateRequest{Template: row.asked, Timeout: time.Minute})
			if (err == nil) != row.want || err != nil && cube.KindOf(err) != cube.Forbidden {
				t.Errorf("for %q, %q: error = %v", row.templates, row.asked, err)
			}
		}
	})
}

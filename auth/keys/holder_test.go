package keys

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube"
	"cube/auth/decision"
)

// house is a store with keys of several owners, by name.
type house struct {
	store   cube.APIKeyStore
	secrets map[string]string
	ids     map[string]cube.APIKeyID
}

func newHouse(t *testing.T) *house {
	h := &house{store: openStore(t), secrets: map[string]string{}, ids: map[string]cube.APIKeyID{}}
	for _, r := range []Request{
		{Name: "ada", Owner: cube.Owner{Subject: "ada", Team: "red"}},
		{Name: "alan", Owner: cube.Owner{Subject: "alan", Team: "red"}},
		{Name: "bob", Owner: cube.Owner{Subject: "bob", Team: "blue"}},
		{Name: "nobody"},
		{Name: "operator", Operator: true},
		{Name: "red operator", Operator: true, Owner: cube.Owner{Subject: "ada", Team: "red"}},
		{Name: "limited", Owner: cube.Owner{Subject: "ada", Team: "red"}, Templates: []string{"base"}, Lifetime: time.Hour},
	} {
		key, secret := issued(t, h.store, r)
		h.ids[r.Name], h.secrets[r.Name] = key.ID, secret
	}
	return h
}

// as returns a context of requests with a key, as the door makes it.
func (h *house) as(t *testing.T, name string) context.Context {
	t.Helper()
	answer := decide(t, New(Config{Store: h.store}), asks(decision.APIKey, h.secrets[name], "POST"))
	if !answer.Allowed {
		t.Fatalf("%s is refused", name)
	}
	return cube.WithIdentity(t.Context(), answer.Identity)
}

var allNames = []string{"ada", "alan", "bob", "nobody", "operator", "red operator", "limited"}

func TestWhoSeesAndChangesWhoseKeys(t *testing.T) {
	for _, test := range []struct {
		tenancy cube.Tenancy
		caller  string
		sees    []string // nil: the caller is refused
	}{
		{"", "ada", allNames},
		{cube.TenancyOff, "nobody", allNames},
		{cube.TenancyTeam, "ada", []string{"ada", "alan", "limited"}},
		{cube.TenancyTeam, "bob", []string{"bob"}},
		{cube.TenancySubject, "ada", []string{"ada", "limited"}},
		{cube.TenancySubject, "alan", []string{"alan"}},
		{cube.TenancyTeam, "nobody", nil},
		{cube.TenancySubject, "nobody", nil},
		{cube.TenancyTeam, "operator", allNames},
		{cube.TenancySubject, "red operator", allNames},
	} {
		t.Run(string(test.tenancy)+" "+test.caller, func(t *testing.T) {
			h := newHouse(t)
			keys := New(Config{Store: h.store, Tenancy: test.tenancy})
			ctx := h.as(t, test.caller)

			list, err := keys.List(ctx)
			if test.sees == nil {
				wantKind(t, err, cube.Forbidden)
			} else if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, key := range list {
				names = append(names, key.Name)
			}
			slices.Sort(names)
			want := slices.Sorted(slices.Values(test.sees))
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("list (-want +got):\n%s", diff)
			}

			for _, name := range allNames {
				for what, change := range map[string]error{
					"rename": keys.Rename(ctx, h.ids[name], "new "+name),
					"revoke": keys.Revoke(ctx, h.ids[name]),
				} {
					key, err := h.store.APIKey(t.Context(), h.ids[name])
					if err != nil {
						t.Fatal(err)
					}
					untouched := key.Name == name && key.RevokedAt.IsZero()
					switch {
					case slices.Contains(test.sees, name):
						if change != nil || untouched {
							t.Errorf("%s %s: %v", what, name, change)
						}
					case test.sees == nil:
						wantKind(t, change, cube.Forbidden)
					case change == nil || change.Error() != "API key "+string(h.ids[name])+" not found" || !untouched:
						t.Errorf("%s %s, which is another's: %v, row %+v", what, name, change, key)
					}
				}
			}
		})
	}
}

func wantKind(t *testing.T, err error, want cube.Kind) {
	t.Helper()
	if err == nil || cube.KindOf(err) != want {
		t.Errorf("error = %v, want one of kind %v", err, want)
	}
}

func TestAnotherOnesKeyIsAsOneThatIsNotThere(t *testing.T) {
	h := newHouse(t)
	keys := New(Config{Store: h.store, Tenancy: cube.TenancyTeam})
	ctx := h.as(t, "bob")
	ended, _ := issued(t, h.store, Request{Name: "ended", Owner: cube.Owner{Team: "blue"}})
	revoked(t, h.store, ended.ID)
	for _, id := range []cube.APIKeyID{h.ids["ada"], ended.ID, cube.NewAPIKeyID()} {
		want := "API key " + string(id) + " not found"
		for _, err := range []error{keys.Rename(ctx, id, "x"), keys.Revoke(ctx, id)} {
			wantKind(t, err, cube.NotFound)
			if err != nil && err.Error() != want {
				t.Errorf("error = %q, want %q", err, want)
			}
		}
	}
	// Nor does a name tell: bob may use one that is in use elsewhere.
	if _, _, err := keys.Create(ctx, "ada"); err != nil {
		t.Errorf("creating with another tenant's name: %v", err)
	}
	if err := keys.Rename(ctx, h.ids["bob"], "alan"); err != nil {
		t.Errorf("renaming to another tenant's name: %v", err)
	}
}

func TestAKeyIsNeverMoreThanItsCreator(t *testing.T) {
	h := newHouse(t)
	keys := New(Config{Store: h.store, Tenancy: cube.TenancyTeam})
	for _, name := range []string{"ada", "limited", "operator", "red operator"} {
		parent, err := h.store.APIKey(t.Context(), h.ids[name])
		if err != nil {
			t.Fatal(err)
		}
		got, secret, err := keys.Create(h.as(t, name), "of "+name)
		if err != nil {
			t.Fatalf("%s creates: %v", name, err)
		}
		want := cube.APIKey{
			ID: got.ID, Name: "of " + name, Hash: hashOf(secret), MaskStart: secret[4:6], MaskEnd: secret[40:],
			Role: cube.RoleFull, Owner: parent.Owner, Operator: false, Templates: parent.Templates,
			CreatedAt: got.CreatedAt, CreatedBy: parent.ID, ExpiresAt: parent.ExpiresAt,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("created by %s (-want +got):\n%s", name, diff)
		}
		if !decide(t, keys, asks(decision.Bearer, secret, "POST")).Allowed {
			t.Errorf("what %s created opens nothing", name)
		}
	}
}

func TestWhoMayNotCreate(t *testing.T) {
	h := newHouse(t)
	keys := New(Config{Store: h.store})
	reader, _ := issued(t, h.store, Request{Name: "reader", Role: cube.RoleReadOnly})
	ended, _ := issued(t, h.store, Request{Name: "ended"})
	revoked(t, h.store, ended.ID)
	for name, caller := range map[string]cube.Identity{
		"nobody, through an open door":      {},
		"an identity of another credential": {Subject: "ada", Team: "red", Scopes: []string{cube.ScopeOperator}},
		"a key that may only read":          {Key: string(reader.ID)},
		"a key that was revoked meanwhile":  {Key: string(ended.ID)},
	} {
		_, secret, err := keys.Create(cube.WithIdentity(t.Context(), caller), "new")
		if secret != "" || err == nil || cube.KindOf(err) != cube.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, err := range []error{
		func() error { _, err := keys.List(t.Context()); return err }(),
		keys.Rename(t.Context(), h.ids["ada"], "x"),
		keys.Revoke(t.Context(), h.ids["ada"]),
	} {
		wantKind(t, err, cube.Forbidden)
	}
}

func TestNamesAreChecked(t *testing.T) {
	h := newHouse(t)
	keys := New(Config{Store: h.store})
	ctx := h.as(t, "nobody")
	for name, want := range map[string]cube.Kind{"": cube.Invalid, "a\n": cube.Invalid, "operator": cube.Conflict} {
		_, _, err := keys.Create(ctx, name)
		wantKind(t, err, want)
		wantKind(t, keys.Rename(ctx, h.ids["nobody"], name), want)
	}
	if list, err := keys.List(ctx); len(list) != len(allNames) || err != nil {
		t.Errorf("there are %d keys, %v; want %d", len(list), err, len(allNames))
	}
}

func TestAKeyMayRevokeItself(t *testing.T) {
	h := newHouse(t)
	keys := New(Config{Store: h.store, Tenancy: cube.TenancySubject})
	if err := keys.Revoke(h.as(t, "bob"), h.ids["bob"]); err != nil {
		t.Fatal(err)
	}
	if decide(t, keys, asks(decision.Bearer, h.secrets["bob"], "GET")).Allowed {
		t.Error("it opens afterwards")
	}
}

package keys

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube"
	"cube/auth/decision"
	"cube/store/sqlite"
)

func openStore(t testing.TB) cube.APIKeyStore {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "cube.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	rows, err := store.APIKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func issued(t testing.TB, store cube.APIKeyStore, r Request) (cube.APIKey, string) {
	t.Helper()
	key, secret, err := Issue(t.Context(), store, r)
	if err != nil {
		t.Fatalf("issuing %+v: %v", r, err)
	}
	return key, secret
}

func revoked(t testing.TB, store cube.APIKeyStore, id cube.APIKeyID) {
	t.Helper()
	if err := Revoke(t.Context(), store, id); err != nil {
		t.Fatal(err)
	}
}

// asks is a question; a GET is the least that can be asked.
func asks(kind decision.Kind, secret, method string) decision.Question {
	return decision.Question{Credential: decision.Credential{Kind: kind, Secret: secret}, Method: method, Path: "/sandboxes"}
}

func decide(t testing.TB, k *Keys, q decision.Question) decision.Answer {
	t.Helper()
	answer, err := k.Decide(t.Context(), q)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	if answer.Source != decision.FromKey || answer.Reuse == nil || *answer.Reuse != 0 {
		t.Errorf("answer = %+v, want one of a key that nobody keeps", answer)
	}
	return answer
}

func TestAKeyOpensTheDoor(t *testing.T) {
	store := openStore(t)
	keys := New(Config{Store: store})
	plain, plainSecret := issued(t, store, Request{Name: "plain"})
	full, fullSecret := issued(t, store, Request{
		Name: "all of it", Owner: cube.Owner{Subject: "ada", Team: "red"}, Operator: true,
		Templates: []string{"base", "small"}, Lifetime: time.Hour,
	})
	for _, test := range []struct {
		name, secret string
		want         cube.Identity
	}{
		{"a plain key", plainSecret, cube.Identity{Key: string(plain.ID)}},
		{"a key with everything", fullSecret, cube.Identity{
			Key: string(full.ID), Subject: "ada", Team: "red", Scopes: []string{cube.ScopeOperator}, Templates: []string{"base", "small"},
		}},
	} {
		for _, kind := range []decision.Kind{decision.Bearer, decision.APIKey} {
			got := decide(t, keys, asks(kind, test.secret, "DELETE"))
			if !got.Allowed || got.Status != 200 {
				t.Errorf("%s, as kind %d: %+v", test.name, kind, got)
			}
			if diff := cmp.Diff(test.want, got.Identity); diff != "" {
				t.Errorf("%s: identity (-want +got):\n%s", test.name, diff)
			}
		}
	}
}

func TestWhatOpensNothing(t *testing.T) {
	store := openStore(t)
	keys := New(Config{Store: store})
	key, secret := issued(t, store, Request{Name: "revoked"})
	revoked(t, store, key.ID)
	_, good := issued(t, store, Request{Name: "good"})
	for name, secret := range map[string]string{
		"a revoked key":               secret,
		"a key that was never made":   cube.APIKeyPrefix + strings.Repeat("0", cube.APIKeyLength),
		"nothing":                     "",
		"the prefix":                  cube.APIKeyPrefix,
		"a key in upper case":         strings.ToUpper(good),
		"hex in upper case":           cube.APIKeyPrefix + strings.ToUpper(good[len(cube.APIKeyPrefix):]),
		"a key without its prefix":    good[len(cube.APIKeyPrefix):],
		"a key and more":              good + "0",
		"a key but its last":          good[:len(good)-1],
		"a key's hash in hex":         cube.APIKeyPrefix + strings.Repeat("f", 64),
		"a key with a quote at last":  good[:len(good)-1] + "'",
		"a key with a byte of two":    good[:len(good)-2] + "é",
		"a key behind another scheme": "Bearer " + good,
		"an id":                       string(key.ID),
		"a very long one":             cube.APIKeyPrefix + strings.Repeat("a", 1<<16),
	} {
		want := decision.Answer{Status: 401, Source: decision.FromKey, Reuse: new(time.Duration)}
		if diff := cmp.Diff(want, decide(t, keys, asks(decision.APIKey, secret, "GET"))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if !decide(t, keys, asks(decision.APIKey, good, "GET")).Allowed {
		t.Error("the good key is refused too")
	}
}

func TestRoles(t *testing.T) {
	store := openStore(t)
	keys := New(Config{Store: store})
	for _, test := range []struct {
		role    cube.APIKeyRole
		refused []string
	}{
		{"", nil},
		{cube.RoleFull, nil},
		{cube.RoleReadOnly, []string{"POST", "PUT", "PATCH", "DELETE", "get", "NEW"}},
	} {
		_, secret := issued(t, store, Request{Name: "role:" + string(test.role), Role: test.role})
		var refused []string
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "get", "NEW"} {
			answer := decide(t, keys, asks(decision.Bearer, secret, method))
			if !answer.Allowed {
				refused = append(refused, method)
				if answer.Status != 403 || answer.Identity.Key != "" {
					t.Errorf("%s %s: %+v, want 403 and nobody", test.role, method, answer)
				}
			}
		}
		if diff := cmp.Diff(test.refused, refused); diff != "" {
			t.Errorf("role %q refuses (-want +got):\n%s", test.role, diff)
		}
	}
}

func TestARoleOfAnotherVersionMayDoNothing(t *testing.T) {
	store := openStore(t)
	secret := newSecret()
	key := cube.APIKey{ID: cube.NewAPIKeyID(), Name: "n", Role: "billing", CreatedAt: now(), Hash: hashOf(secret)}
	if err := store.CreateAPIKey(t.Context(), key, MaxKeys); err != nil {
		t.Fatal(err)
	}
	if answer := decide(t, New(Config{Store: store}), asks(decision.Bearer, secret, "GET")); answer.Allowed || answer.Status != 403 {
		t.Errorf("answer = %+v, want 403", answer)
	}
}

func TestAKeyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t)
		keys := New(Config{Store: store})
		_, secret := issued(t, store, Request{Name: "short", Lifetime: time.Hour})
		time.Sleep(time.Hour - time.Millisecond)
		if !decide(t, keys, asks(decision.Bearer, secret, "GET")).Allowed {
			t.Error("a millisecond before: refused")
		}
		time.Sleep(time.Millisecond)
		if answer := decide(t, keys, asks(decision.Bearer, secret, "GET")); answer.Allowed || answer.Status != 401 {
			t.Errorf("when it has expired: %+v", answer)
		}
	})
}

func TestARevokedKeyIsRefusedAtOnce(t *testing.T) {
	store := openStore(t)
	keys := New(Config{Store: store})
	key, secret := issued(t, store, Request{Name: "n"})
	if !decide(t, keys, asks(decision.Bearer, secret, "GET")).Allowed {
		t.Fatal("a new key is refused")
	}
	revoked(t, store, key.ID)
	if decide(t, keys, asks(decision.Bearer, secret, "GET")).Allowed {
		t.Error("it opens after it was revoked")
	}
}

func TestTheDoorClosesWithTheFirstKeyAndForGood(t *testing.T) {
	store := openStore(t)
	keys := New(Config{Store: store})
	want := func(when string, keys *Keys, want bool) {
		t.Helper()
		if got, err := keys.InUse(t.Context()); got != want || err != nil {
			t.Errorf("%s: in use %v, %v; want %v", when, got, err, want)
		}
	}
	want("without keys", keys, false)
	key, _ := issued(t, store, Request{Name: "n"})
	want("with the first", keys, true)
	revoked(t, store, key.ID)
	want("when it is revoked", keys, true)
	want("in the next server", New(Config{Store: store}), true)
}

// broken is a store that cannot be read.
type broken struct{ cube.APIKeyStore }

var errBroken = errors.New("the disk is gone")

func (broken) HasAPIKeys(context.Context) (bool, error) { return false, errBroken }

func (broken) APIKeyByHash(context.Context, [32]byte) (cube.APIKey, error) {
	return cube.APIKey{}, errBroken
}

func TestAStoreThatCannotBeReadIsNoAnswer(t *testing.T) {
	keys := New(Config{Store: broken{}})
	secret := newSecret()
	answer, err := keys.Decide(t.Context(), asks(decision.Bearer, secret, "GET"))
	if !errors.Is(err, errBroken) || answer.Allowed {
		t.Errorf("answer = %+v, %v; want none", answer, err)
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the error shows the key: %v", err)
	}
	if _, err := keys.InUse(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("in use: %v, want an error", err)
	}
}

func TestWhatIsNoKeyIsRefusedWithoutTheStore(t *testing.T) {
	keys := New(Config{Store: broken{}})
	for _, secret := range []string{"", "x", strings.ToUpper(newSecret()), newSecret() + "0"} {
		if answer := decide(t, keys, asks(decision.Bearer, secret, "GET")); answer.Allowed || answer.Status != 401 {
			t.Errorf("%q: %+v, want 401", secret, answer)
		}
	}
}

func TestOnceInUseTheStoreIsNotAsked(t *testing.T) {
	store := openStore(t)
	keys := New(Config{Store: store})
	issued(t, store, Request{Name: "n"})
	if in, err := keys.InUse(t.Context()); !in || err != nil {
		t.Fatalf("in use: %v, %v", in, err)
	}
	keys.store = broken{}
	if in, err := keys.InUse(t.Context()); !in || err != nil {
		t.Errorf("afterwards: %v, %v", in, err)
	}
}

func FuzzSecret(f *testing.F) {
	pattern := regexp.MustCompile(`\Ae2b_[0-9a-f]{40}\z`)
	f.Add(newSecret())
	f.Add("e2b_")
	f.Add(cube.APIKeyPrefix + strings.Repeat("g", cube.APIKeyLength))
	f.Fuzz(func(t *testing.T, s string) {
		if got := isSecret(s); got != pattern.MatchString(s) {
			t.Errorf("isSecret(%q) = %v", s, got)
		}
	})
}

// BenchmarkDecide measures what the door waits for.
func BenchmarkDecide(b *testing.B) {
	store := openStore(b)
	keys := New(Config{Store: store})
	_, secret := issued(b, store, Request{Name: "n", Owner: cube.Owner{Team: "red"}})
	q := asks(decision.APIKey, secret, "GET")
	b.ReportAllocs()
	for b.Loop() {
		if answer, err := keys.Decide(b.Context(), q); err != nil || !answer.Allowed {
			b.Fatalf("%+v, %v", answer, err)
		}
	}
}

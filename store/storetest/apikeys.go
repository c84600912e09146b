package storetest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube"
)

// many is a limit that no test but those of the limit reaches.
const many = 1000

// RunAPIKeys is the suite of cube.APIKeyStore. open returns an empty store,
// which it closes by t.Cleanup; it is called once for each test.
func RunAPIKeys(t *testing.T, open func(t *testing.T) cube.APIKeyStore) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, cube.APIKeyStore)
	}{
		{"a key comes back as it was written", apiKeyComesBack},
		{"a key that is not there is not found", missingAPIKey},
		{"an id and a hash are used once", apiKeyOnce},
		{"a name is used once by an owner's keys that are not revoked", apiKeyName},
		{"a list has only what is asked for, in order", listAPIKeys},
		{"the limit is each owner's own, and revoked keys do not count", apiKeyLimit},
		{"many who create at once do not go over the limit", apiKeyLimitTogether},
		{"a new name changes nothing else", renameAPIKey},
		{"a key is revoked once, and stays as a row", revokeAPIKey},
		{"of many who revoke one wins", revokeAPIKeyTogether},
		{"the oldest revoked keys above a bound are deleted", forgetRevokedAPIKeys},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// apiKey returns the n-th key to be created, one a second.
func apiKey(n int) cube.APIKey {
	return cube.APIKey{
		ID:        cube.APIKeyID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n)),
		Name:      fmt.Sprintf("key %d", n),
		Hash:      [32]byte{byte(n), byte(n >> 8), 31: 0xff},
		MaskStart: "ab",
		MaskEnd:   "cdef",
		Role:      cube.RoleFull,
		Owner:     cube.Owner{Subject: "ada", Team: "red"},
		CreatedAt: morning.Add(time.Duration(n) * time.Second),
	}
}

// another returns a copy of the n-th key whose id and hash are those of the m-th.
func another(n, m int) cube.APIKey {
	k := apiKey(n)
	k.ID, k.Hash = apiKey(m).ID, apiKey(m).Hash
	return k
}

func createAPIKeys(t *testing.T, store cube.APIKeyStore, keys ...cube.APIKey) {
	t.Helper()
	for _, k := range keys {
		if err := store.CreateAPIKey(t.Context(), k, many); err != nil {
			t.Fatalf("creating the row of %s: %v", k.ID, err)
		}
	}
}

func revoke(t *testing.T, store cube.APIKeyStore, at time.Time, keys ...cube.APIKey) {
	t.Helper()
	for _, k := range keys {
		if err := store.RevokeAPIKey(t.Context(), k.ID, at, many); err != nil {
			t.Fatalf("revoking %s: %v", k.ID, err)
		}
	}
}

func wantAPIKey(t *testing.T, store cube.APIKeyStore, want cube.APIKey) {
	t.Helper()
	byID, err := store.APIKey(t.Context(), want.ID)
	if err != nil {
		t.Fatalf("reading the row of %s: %v", want.ID, err)
	}
	byHash, err := store.APIKeyByHash(t.Context(), want.Hash)
	if err != nil {
		t.Fatalf("reading the row of %s by its hash: %v", want.ID, err)
	}
	for _, got := range []cube.APIKey{byID, byHash} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("row of %s (-want +got):\n%s", want.ID, diff)
		}
	}
}

// wantAPIKeys checks which keys a query finds, as "1 2 3".
func wantAPIKeys(t *testing.T, store cube.APIKeyStore, q cube.APIKeyQuery, want string) {
	t.Helper()
	list, err := store.ListAPIKeys(t.Context(), q)
	if err != nil {
		t.Fatalf("listing %+v: %v", q, err)
	}
	numbers := make([]string, len(list))
	for i, k := range list {
		numbers[i] = strings.TrimLeft(strings.TrimPrefix(string(k.ID), "00000000-0000-4000-8000-"), "0")
	}
	if got := strings.Join(numbers, " "); got != want {
		t.Errorf("list of %+v = [%s], want [%s]", q, got, want)
	}
}

func apiKeyComesBack(t *testing.T, store cube.APIKeyStore) {
	full := apiKey(1)
	full.Name = `é 🦉 "\' %`
	full.Role, full.Operator, full.CreatedBy = cube.RoleReadOnly, true, apiKey(7).ID
	full.Templates = []string{"base", `strange "\' ,`}
	full.ExpiresAt = morning.Add(time.Hour)
	bare := cube.APIKey{ID: apiKey(2).ID, CreatedAt: morning}
	nothing := apiKey(3)
	nothing.Templates = []string{} // not all, but none
	createAPIKeys(t, store, full, bare, nothing)
	wantAPIKey(t, store, full)
	wantAPIKey(t, store, bare)
	wantAPIKey(t, store, nothing)
}

func missingAPIKey(t *testing.T, store cube.APIKeyStore) {
	absent := func(k cube.APIKey) {
		_, err := store.APIKey(t.Context(), k.ID)
		wantKind(t, err, cube.NotFound)
		_, err = store.APIKeyByHash(t.Context(), k.Hash)
		wantKind(t, err, cube.NotFound)
		wantKind(t, store.RenameAPIKey(t.Context(), k.ID, "x"), cube.NotFound)
		wantKind(t, store.RevokeAPIKey(t.Context(), k.ID, morning, many), cube.NotFound)
	}
	absent(apiKey(1))
	wantAPIKeys(t, store, cube.APIKeyQuery{Revoked: true}, "")
	if has, err := store.HasAPIKeys(t.Context()); has || err != nil {
		t.Errorf("an empty store has keys: %v, %v", has, err)
	}
	createAPIKeys(t, store, apiKey(1))
	absent(apiKey(2))
	if has, err := store.HasAPIKeys(t.Context()); !has || err != nil {
		t.Errorf("a store with a key has none: %v, %v", has, err)
	}
}

func apiKeyOnce(t *testing.T, store cube.APIKeyStore) {
	createAPIKeys(t, store, apiKey(1))
	sameID, sameHash := apiKey(2), apiKey(2)
	sameID.ID, sameHash.Hash = apiKey(1).ID, apiKey(1).Hash
	for _, k := range []cube.APIKey{sameID, sameHash} {
		wantKind(t, store.CreateAPIKey(t.Context(), k, many), cube.Conflict)
	}
	revoke(t, store, morning, apiKey(1)) // which gives neither free
	for _, k := range []cube.APIKey{sameID, sameHash} {
		wantKind(t, store.CreateAPIKey(t.Context(), k, many), cube.Conflict)
	}
	wantAPIKeys(t, store, cube.APIKeyQuery{Revoked: true}, "1")
}

func apiKeyName(t *testing.T, store cube.APIKeyStore) {
	createAPIKeys(t, store, apiKey(1), apiKey(2))
	same := another(1, 3)
	wantKind(t, store.CreateAPIKey(t.Context(), same, many), cube.Conflict)
	wantKind(t, store.RenameAPIKey(t.Context(), apiKey(2).ID, same.Name), cube.Conflict)
	wantAPIKey(t, store, apiKey(2))

	otherTeam, otherSubject := another(1, 4), another(1, 5)
	otherTeam.Owner.Team, otherSubject.Owner.Subject = "blue", "bob"
	createAPIKeys(t, store, otherTeam, otherSubject)

	revoke(t, store, morning, apiKey(1))
	createAPIKeys(t, store, same)
	wantAPIKeys(t, store, cube.APIKeyQuery{Name: same.Name}, "3 4 5")
}

func listAPIKeys(t *testing.T, store cube.APIKeyStore) {
	bobs, blues, bare := apiKey(3), apiKey(4), apiKey(5)
	bobs.Owner.Subject, blues.Owner.Team, bare.Owner = "bob", "blue", cube.Owner{}
	createAPIKeys(t, store, bare, blues, bobs, apiKey(2), apiKey(1))
	revoke(t, store, morning, apiKey(2))
	for _, test := range []struct {
		name  string
		query cube.APIKeyQuery
		want  string
	}{
		{"all that are not revoked", cube.APIKeyQuery{}, "1 3 4 5"},
		{"all", cube.APIKeyQuery{Revoked: true}, "1 2 3 4 5"},
		{"a team", cube.APIKeyQuery{Owner: cube.Owner{Team: "red"}}, "1 3"},
		{"a subject", cube.APIKeyQuery{Owner: cube.Owner{Subject: "ada"}, Revoked: true}, "1 2 4"},
		{"a subject of a team", cube.APIKeyQuery{Owner: cube.Owner{Subject: "bob", Team: "red"}}, "3"},
		{"a subject of another team", cube.APIKeyQuery{Owner: cube.Owner{Subject: "bob", Team: "blue"}}, ""},
		{"a name", cube.APIKeyQuery{Name: "key 4"}, "4"},
		{"a revoked key's name", cube.APIKeyQuery{Name: "key 2"}, ""},
		{"a part of a name", cube.APIKeyQuery{Name: "key"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) { wantAPIKeys(t, store, test.query, test.want) })
	}
}

func apiKeyLimit(t *testing.T, store cube.APIKeyStore) {
	createAPIKeys(t, store, apiKey(1), apiKey(2))
	wantKind(t, store.CreateAPIKey(t.Context(), apiKey(3), 2), cube.Exhausted)
	wantKind(t, store.CreateAPIKey(t.Context(), another(2, 3), 2), cube.Conflict) // what the user can do about it comes first
	other := apiKey(4)
	other.Owner = cube.Owner{Subject: "ada"}
	if err := store.CreateAPIKey(t.Context(), other, 2); err != nil {
		t.Errorf("another owner's: %v", err)
	}
	revoke(t, store, morning, apiKey(1))
	if err := store.CreateAPIKey(t.Context(), apiKey(3), 2); err != nil {
		t.Errorf("in the place of a revoked key: %v", err)
	}
	wantAPIKeys(t, store, cube.APIKeyQuery{}, "2 3 4")
}

func apiKeyLimitTogether(t *testing.T, store cube.APIKeyStore) {
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			if err := store.CreateAPIKey(t.Context(), apiKey(n+1), 3); err != nil && cube.KindOf(err) != cube.Exhausted {
				t.Errorf("a loser's error = %v, want one of kind exhausted", err)
			}
		})
	}
	wg.Wait()
	if list, err := store.ListAPIKeys(t.Context(), cube.APIKeyQuery{}); len(list) != 3 || err != nil {
		t.Errorf("there are %d keys, %v; want 3", len(list), err)
	}
}

func renameAPIKey(t *testing.T, store cube.APIKeyStore) {
	createAPIKeys(t, store, apiKey(1), apiKey(2))
	want := apiKey(1)
	want.Name = "another"
	for range 2 { // the second time to the name that it has
		if err := store.RenameAPIKey(t.Context(), want.ID, want.Name); err != nil {
			t.Fatal(err)
		}
		wantAPIKey(t, store, want)
		wantAPIKey(t, store, apiKey(2))
	}
}

func revokeAPIKey(t *testing.T, store cube.APIKeyStore) {
	createAPIKeys(t, store, apiKey(1), apiKey(2))
	want := apiKey(1)
	want.RevokedAt = morning.Add(time.Hour)
	revoke(t, store, want.RevokedAt, want)
	wantKind(t, store.RevokeAPIKey(t.Context(), want.ID, morning, many), cube.NotFound)
	wantKind(t, store.RenameAPIKey(t.Context(), want.ID, "x"), cube.NotFound)
	wantAPIKey(t, store, want)
	wantAPIKey(t, store, apiKey(2))
	revoke(t, store, morning, apiKey(2))
	if has, err := store.HasAPIKeys(t.Context()); !has || err != nil {
		t.Errorf("a store whose keys are all revoked has none: %v, %v", has, err)
	}
}

func revokeAPIKeyTogether(t *testing.T, store cube.APIKeyStore) {
	createAPIKeys(t, store, apiKey(1))
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			switch err := store.RevokeAPIKey(t.Context(), apiKey(1).ID, morning, many); {
			case err == nil:
				won.Add(1)
			case cube.KindOf(err) != cube.NotFound:
				t.Errorf("a loser's error = %v, want one of kind not found", err)
			}
		})
	}
	wg.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d have revoked the key, want 1", n)
	}
}

func forgetRevokedAPIKeys(t *testing.T, store cube.APIKeyStore) {
	createAPIKeys(t, store, apiKey(1), apiKey(2), apiKey(3), apiKey(4))
	for n := 1; n <= 3; n++ {
		if err := store.RevokeAPIKey(t.Context(), apiKey(n).ID, morning.Add(time.Duration(n)*time.Minute), 2); err != nil {
			t.Fatal(err)
		}
	}
	wantAPIKeys(t, store, cube.APIKeyQuery{Revoked: true}, "2 3 4")
	// A clock that was set back: the row is not lost to its own revocation.
	if err := store.RevokeAPIKey(t.Context(), apiKey(4).ID, morning, 0); err != nil {
		t.Fatal(err)
	}
	wantAPIKeys(t, store, cube.APIKeyQuery{Revoked: true}, "4")
}

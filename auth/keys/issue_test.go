package keys

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube"
)

func hashOf(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

func TestAKeyIsKeptAsItsHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t)
		request := Request{
			Name: "Ada's laptop é 🦉", Role: cube.RoleReadOnly, Owner: cube.Owner{Subject: "ada", Team: "red"},
			Operator: true, Templates: []string{"base"}, Lifetime: time.Hour,
		}
		got, secret := issued(t, store, request)
		if !isSecret(secret) {
			t.Errorf("the key %q is not of E2B's form", secret)
		}
		want := cube.APIKey{
			ID: got.ID, Name: request.Name, Hash: hashOf(secret),
			MaskStart: secret[4:6], MaskEnd: secret[40:],
			Role: request.Role, Owner: request.Owner, Operator: true, Templates: request.Templates,
			CreatedAt: time.Now().UTC(), ExpiresAt: time.Now().UTC().Add(time.Hour),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("issued (-want +got):\n%s", diff)
		}
		if _, err := cube.ParseAPIKeyID(string(got.ID)); err != nil {
			t.Errorf("its id: %v", err)
		}
		row, err := store.APIKey(t.Context(), got.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, row); diff != "" {
			t.Errorf("the row (-want +got):\n%s", diff)
		}
	})
}

func TestNoTwoKeysAreTheSame(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		secret, id := newSecret(), string(cube.NewAPIKeyID())
		if seen[secret] || seen[id] {
			t.Fatal("one came twice")
		}
		seen[secret], seen[id] = true, true
	}
}

func TestWhatAKeyMayBeMadeOf(t *testing.T) {
	store := openStore(t)
	long := strings.Repeat("x", 256)
	for i, test := range []struct {
		name string
		r    Request
		ok   bool
	}{
		{"a short name", Request{Name: "a"}, true},
		{"a name of 64 characters, not bytes", Request{Name: strings.Repeat("é", 64)}, true},
		{"a name with a blank inside", Request{Name: "my laptop"}, true},
		{"a long subject and team", Request{Name: "long", Owner: cube.Owner{Subject: long, Team: long}}, true},
		{"a template with a slash and a tag", Request{Name: "tag", Templates: []string{"team/name:tag"}}, true},

		{"no name", Request{}, false},
		{"a name of 65 characters", Request{Name: strings.Repeat("é", 65)}, false},
		{"a name of blanks", Request{Name: "   "}, false},
		{"a name with a blank behind", Request{Name: "a "}, false},
		{"a name of two lines", Request{Name: "a\nb"}, false},
		{"a name with a tab", Request{Name: "a\tb"}, false},
		{"a name that moves the cursor", Request{Name: "a\x1b[2J"}, false},
		{"a name that turns the text round", Request{Name: "a\u202eb"}, false},
		{"a name that is no text", Request{Name: "a\xff"}, false},
		{"a name that is an id", Request{Name: string(cube.NewAPIKeyID())}, false},
		{"a role that is none", Request{Name: "n", Role: "admin"}, false},
		{"a subject with a blank", Request{Name: "n", Owner: cube.Owner{Subject: "a b"}}, false},
		{"a team with a blank", Request{Name: "n", Owner: cube.Owner{Team: "a b"}}, false},
		{"a team that is too long", Request{Name: "n", Owner: cube.Owner{Team: long + "x"}}, false},
		{"a team of other letters", Request{Name: "n", Owner: cube.Owner{Team: "é"}}, false},
		{"an empty template", Request{Name: "n", Templates: []string{"base", ""}}, false},
		{"too many templates", Request{Name: "n", Templates: slices.Repeat([]string{"base"}, 101)}, false},
		{"a time that is over", Request{Name: "n", Lifetime: -time.Second}, false},
	} {
		_, secret, err := Issue(t.Context(), store, test.r)
		if (err == nil) != test.ok || (secret != "") != test.ok || err != nil && cube.KindOf(err) != cube.Invalid {
			t.Errorf("%d, %s: %v", i, test.name, err)
		}
	}
	if list, err := store.ListAPIKeys(t.Context(), cube.APIKeyQuery{Revoked: true}); len(list) != 5 || err != nil {
		t.Errorf("there are %d keys, %v; want the 5 good ones", len(list), err)
	}
}

func TestAnOwnerHasAtMostSoManyKeys(t *testing.T) {
	store := openStore(t)
	owner := cube.Owner{Team: "red"}
	for n := range MaxKeys {
		issued(t, store, Request{Name: fmt.Sprint(n), Owner: owner})
	}
	if _, _, err := Issue(t.Context(), store, Request{Name: "more", Owner: owner}); err == nil || cube.KindOf(err) != cube.Exhausted {
		t.Errorf("one more: error = %v, want one of kind exhausted", err)
	}
	if _, _, err := Issue(t.Context(), store, Request{Name: "more", Owner: cube.Owner{Team: "blue"}}); err != nil {
		t.Errorf("one of another owner: %v", err)
	}
}

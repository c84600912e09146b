package cache

import (
	"testing"
	"time"

	"cube/auth/decision"
)

// vary returns a question that differs in what change changes.
func vary(change func(*decision.Question)) decision.Question {
	q := question("secret")
	change(&q)
	return q
}

func TestD1AnotherQuestionIsAskedAgain(t *testing.T) {
	s := answering(yes())
	c := newCache(t, s, Config{TTL: time.Minute})
	for i, q := range []decision.Question{
		question("secret"),
		vary(func(q *decision.Question) { q.Method = "DELETE" }),
		vary(func(q *decision.Question) { q.Method = "get" }),
		vary(func(q *decision.Question) { q.Path = "/templates" }),
		vary(func(q *decision.Question) { q.Path = "/sandboxes/" }),
		vary(func(q *decision.Question) { q.Path = "/%73andboxes" }),
		vary(func(q *decision.Question) { q.Credential.Kind = decision.APIKey }),
		vary(func(q *decision.Question) { q.Credential.Secret = "Secret" }),
		// The same bytes in a row, with other borders.
		vary(func(q *decision.Question) { q.Credential.Secret, q.Method = "secretG", "ET" }),
		vary(func(q *decision.Question) { q.Method, q.Path = "GET/", "sandboxes" }),
		vary(func(q *decision.Question) { q.Credential.Secret, q.Method, q.Path = "", "", "secretGET/sandboxes" }),
		vary(func(q *decision.Question) { q.Credential.Secret = "secret\x03GET" }),
	} {
		if source := decide(t, c, q).Source; source != decision.FromCallback {
			t.Errorf("question %d is answered from %s", i, source)
		}
	}
}

func TestWhoAsksUnderWhichRequestIsNoPartOfTheQuestion(t *testing.T) {
	s := answering(yes())
	c := newCache(t, s, Config{TTL: time.Minute})
	decide(t, c, question("secret"))
	decide(t, c, vary(func(q *decision.Question) { q.RequestID = "r2" }))
	decide(t, c, vary(func(q *decision.Question) { q.Fingerprint = "f2" }))
	s.wantAsked(t, 1)
}

// FuzzKey looks for two questions of one key.
func FuzzKey(f *testing.F) {
	f.Add("a", "GET", "/x", "a", "GET", "/x", false)
	f.Add("aG", "ET", "/x", "a", "GET", "/x", false)
	f.Add("", "", "a\x00\x00", "", "", "a", true)
	g := newGeneration()
	f.Fuzz(func(t *testing.T, secret, method, path, secret2, method2, path2 string, otherKind bool) {
		a := decision.Question{Credential: decision.Credential{Secret: secret}, Method: method, Path: path}
		b := decision.Question{Credential: decision.Credential{Secret: secret2}, Method: method2, Path: path2}
		if otherKind {
			b.Credential.Kind = decision.APIKey
		}
		if same := g.key(&a) == g.key(&b); same != (a == b) {
			t.Errorf("%+v and %+v: the keys are the same: %v", a, b, same)
		}
	})
}

func TestEachGenerationMakesKeysOfItsOwn(t *testing.T) {
	q := question("secret")
	seen := map[key]bool{}
	for range 3 {
		seen[newGeneration().key(&q)] = true
	}
	if len(seen) != 3 {
		t.Errorf("three generations make %d keys of one question", len(seen))
	}
}

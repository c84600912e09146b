package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube/auth/decision"
)

func TestARememberedAnswerIsTheSameButForItsSource(t *testing.T) {
	for _, answer := range []decision.Answer{yes(), no(401), no(403)} {
		s := answering(answer)
		c := newCache(t, s, Config{TTL: time.Minute})
		if diff := cmp.Diff(answer, decide(t, c, question("a"))); diff != "" {
			t.Errorf("the first answer differs from the service's (-want +got):\n%s", diff)
		}
		answer.Source = decision.FromCache
		if diff := cmp.Diff(answer, decide(t, c, question("a"))); diff != "" {
			t.Errorf("the second differs (-want +got):\n%s", diff)
		}
		s.wantAsked(t, 1)
	}
}

func TestHowLongAnAnswerIsRemembered(t *testing.T) {
	const never = 0
	minute := Config{TTL: time.Minute}
	// The clock of each row starts at the same moment.
	exp := func(after time.Duration) string {
		start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		return token(fmt.Sprintf(`{"exp":%d}`, start.Add(after).Unix()))
	}
	for name, row := range map[string]struct {
		config Config
		secret string
		answer decision.Answer
		want   time.Duration
	}{
		"a yes for the TTL":                      {minute, "a", yes(), time.Minute},
		"the service may shorten it":             {minute, "a", reuse(yes(), 10*time.Second), 10 * time.Second},
		"the service cannot prolong it":          {minute, "a", reuse(yes(), time.Hour), time.Minute},
		"the service may forbid it":              {minute, "a", reuse(yes(), 0), never},
		"no TTL remembers nothing":               {Config{}, "a", yes(), never},
		"a token's expiry shortens it":           {minute, exp(30 * time.Second), yes(), 30 * time.Second},
		"a token's expiry cannot prolong it":     {minute, exp(time.Hour), yes(), time.Minute},
		"an expired token's yes is not kept":     {minute, exp(-time.Second), yes(), never},
		"the smallest of all three":              {minute, exp(30 * time.Second), reuse(yes(), 20*time.Second), 20 * time.Second},
		"a 401 for five seconds":                 {minute, "a", no(401), 5 * time.Second},
		"a 403 for five seconds":                 {minute, "a", no(403), 5 * time.Second},
		"a refusal never longer than a yes":      {Config{TTL: 2 * time.Second}, "a", no(401), 2 * time.Second},
		"nor when told to":                       {Config{TTL: 2 * time.Second, RefusalTTL: time.Hour}, "a", no(401), 2 * time.Second},
		"a refusal for its own TTL":              {Config{TTL: time.Hour, RefusalTTL: time.Minute}, "a", no(403), time.Minute},
		"the service may shorten a refusal":      {minute, "a", reuse(no(401), time.Second), time.Second},
		"the service cannot prolong a refusal":   {minute, "a", reuse(no(401), time.Hour), 5 * time.Second},
		"the service may forbid to keep refusal": {minute, "a", reuse(no(403), 0), never},
		"an expired token stays refused":         {minute, exp(-time.Second), no(401), 5 * time.Second},
		"a 429 never":                            {minute, "a", no(429), never},
		"a 429 not even if told to":              {minute, "a", reuse(no(429), time.Hour), never},
		"a 500 never":                            {minute, "a", no(500), never},
		"a 503 never":                            {minute, "a", no(503), never},
		"a redirect never":                       {minute, "a", no(302), never},
		"a 404 never":                            {minute, "a", no(404), never},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := answering(row.answer)
				c := newCache(t, s, row.config)
				decide(t, c, question(row.secret))
				if row.want != never {
					time.Sleep(row.want - time.Millisecond)
					decide(t, c, question(row.secret))
					s.wantAsked(t, 1)
					time.Sleep(time.Millisecond)
				}
				decide(t, c, question(row.secret))
				s.wantAsked(t, 2)
			})
		})
	}
}

func TestErrorsAreNotRemembered(t *testing.T) {
	down := errors.New("down")
	s := &service{decide: func(context.Context, decision.Question) (decision.Answer, error) { return yes(), down }}
	c := newCache(t, s, Config{TTL: time.Minute})
	for range 3 {
		if _, err := c.Decide(t.Context(), question("a")); !errors.Is(err, down) {
			t.Errorf("the error is %v, want %v", err, down)
		}
	}
	s.wantAsked(t, 3)
}

func TestTheTimeThatTheAnswerTookCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{decide: func(context.Context, decision.Question) (decision.Answer, error) {
			time.Sleep(9 * time.Second)
			return yes(), nil
		}}
		c := newCache(t, s, Config{TTL: 10 * time.Second})
		decide(t, c, question("a"))
		time.Sleep(time.Second) // the decision may be ten seconds old by now
		decide(t, c, question("a"))
		s.wantAsked(t, 2)
	})
}

func TestAnAnswerThatIsLateForItsOwnLifetimeIsNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, answering(no(401)), Config{TTL: time.Minute})
		q := question("a")
		k := c.generation.Load().key(&q)
		c.allowed.Set(k, &entry{yes(), time.Now()})
		time.Sleep(time.Millisecond)
		if decide(t, c, q).Allowed {
			t.Error("what was out of date when it was stored is still given")
		}
	})
}

func TestReadingDoesNotProlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := answering(yes())
		c := newCache(t, s, Config{TTL: 10 * time.Second})
		for range 11 {
			decide(t, c, question("a"))
			time.Sleep(time.Second)
		}
		s.wantAsked(t, 2)
	})
}

func TestStatsTellWhatHappened(t *testing.T) {
	c := newCache(t, answering(yes()), Config{TTL: time.Minute})
	decide(t, c, question("a"))
	decide(t, c, question("a"))
	decide(t, c, question("b"))
	want := Stats{Hits: 1, Misses: 2, Stored: 2, Entries: 2}
	if diff := cmp.Diff(want, c.Stats()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.Purge()
	want = Stats{Hits: 1, Misses: 2, Stored: 2, Purges: 1}
	if diff := cmp.Diff(want, c.Stats()); diff != "" {
		t.Errorf("after a purge (-want +got):\n%s", diff)
	}
}

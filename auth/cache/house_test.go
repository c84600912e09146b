package cache

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cube"
	"cube/auth/decision"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a decider that counts how often it is asked.
type service struct {
	asked  atomic.Int64
	decide func(context.Context, decision.Question) (decision.Answer, error)
}

func (s *service) Decide(ctx context.Context, q decision.Question) (decision.Answer, error) {
	s.asked.Add(1)
	return s.decide(ctx, q)
}

// answering is a service that always gives one answer.
func answering(a decision.Answer) *service {
	return &service{decide: func(context.Context, decision.Question) (decision.Answer, error) { return a, nil }}
}

func yes() decision.Answer {
	return decision.Answer{
		Allowed: true, Status: 200, Source: decision.FromCallback,
		Identity: cube.Identity{Subject: "ann", Team: "blue", Scopes: []string{"read"}, Templates: []string{"base"}},
	}
}

func no(status int) decision.Answer {
	return decision.Answer{Status: status, Source: decision.FromCallback}
}

// reuse returns the answer with a word on how long it may be kept.
func reuse(a decision.Answer, d time.Duration) decision.Answer {
	a.Reuse = &d
	return a
}

func question(secret string) decision.Question {
	return decision.Question{
		Credential: decision.Credential{Kind: decision.Bearer, Secret: secret},
		Method:     "GET", Path: "/sandboxes", RequestID: "r1", Fingerprint: "f1",
	}
}

func newCache(t testing.TB, next decision.Decider, config Config) *Cache {
	c := New(next, config)
	t.Cleanup(c.Close)
	return c
}

// decide asks, and fails the test if there is no answer.
func decide(t testing.TB, c *Cache, q decision.Question) decision.Answer {
	t.Helper()
	a, err := c.Decide(t.Context(), q)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return a
}

// wantAsked fails the test if the service was asked another number of times.
func (s *service) wantAsked(t testing.TB, want int64) {
	t.Helper()
	if n := s.asked.Load(); n != want {
		t.Errorf("the service was asked %d times, want %d", n, want)
	}
}

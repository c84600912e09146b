package cache

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cube/auth/decision"
)

// outcome is what one of several who ask at once got.
type outcome struct {
	answer decision.Answer
	err    error
}

// askers ask the same at once, and wait for each other to be asking. To be
// called in a bubble of synctest, with a service that does not answer yet.
func askers(t *testing.T, c *Cache, n int, q decision.Question) (outcomes func() []outcome) {
	got := make([]outcome, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { got[i].answer, got[i].err = c.Decide(t.Context(), q) })
	}
	synctest.Wait()
	return func() []outcome {
		wg.Wait()
		return got
	}
}

// held is a service that answers when it is told to.
func held(a decision.Answer, err error) (s *service, release func()) {
	gate := make(chan struct{})
	return &service{decide: func(context.Context, decision.Question) (decision.Answer, error) {
		<-gate
		return a, err
	}}, sync.OnceFunc(func() { close(gate) })
}

func TestD2TenThousandMissesAreOneQuestion(t *testing.T) {
	n := 10_000
	if raceDetector {
		n = 5_000
	}
	synctest.Test(t, func(t *testing.T) {
		s, release := held(yes(), nil)
		c := newCache(t, s, Config{TTL: time.Minute})
		outcomes := askers(t, c, n, question("a"))
		release()
		sources := map[decision.Source]int{}
		for _, o := range outcomes() {
			if o.err != nil || !o.answer.Allowed || o.answer.Identity.Subject != "ann" {
				t.Fatalf("somebody got %+v, %v", o.answer, o.err)
			}
			sources[o.answer.Source]++
		}
		s.wantAsked(t, 1)
		if sources[decision.FromCallback] != 1 || sources[decision.FromCoalesced] != n-1 {
			t.Errorf("the sources are %v, want one of the callback and %d coalesced", sources, n-1)
		}
		if stats := c.Stats(); stats.Misses != 1 || stats.Coalesced != uint64(n-1) || stats.Stored != 1 {
			t.Errorf("the counters say %+v", stats)
		}
	})
}

func TestD2WhoComesAsTheAnswerDoesIsNoSecondQuestion(t *testing.T) {
	s := answering(yes())
	c := newCache(t, s, Config{TTL: time.Hour})
	const rounds = 200
	for i := range rounds {
		q := question(strings.Repeat("a", i+1))
		var start, wg sync.WaitGroup
		start.Add(1)
		for range 50 {
			wg.Go(func() {
				start.Wait()
				if a, err := c.Decide(t.Context(), q); err != nil || !a.Allowed {
					t.Errorf("somebody got %+v, %v", a, err)
				}
			})
		}
		start.Done()
		wg.Wait()
	}
	s.wantAsked(t, rounds)
	stats := c.Stats()
	if all := stats.Hits + stats.Misses + stats.Coalesced; all != rounds*50 {
		t.Errorf("%d answers are counted of %d: %+v", all, rounds*50, stats)
	}
}

func TestErrorsAreSharedByThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		s, release := held(decision.Answer{}, down)
		c := newCache(t, s, Config{TTL: time.Minute})
		outcomes := askers(t, c, 10, question("a"))
		release()
		for _, o := range outcomes() {
			if !errors.Is(o.err, down) {
				t.Errorf("somebody got %v, want %v", o.err, down)
			}
		}
		s.wantAsked(t, 1)
	})
}

func TestAnAnswerThatMustNotBeStoredIsForOneOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, release := held(reuse(yes(), 0), nil)
		c := newCache(t, s, Config{TTL: time.Minute})
		outcomes := askers(t, c, 10, question("a"))
		s.wantAsked(t, 1)
		release()
		for _, o := range outcomes() {
			if o.err != nil || !o.answer.Allowed || o.answer.Source != decision.FromCallback {
				t.Errorf("somebody got %+v, %v; want the service's own answer", o.answer, o.err)
			}
		}
		s.wantAsked(t, 10)
	})
}

func TestDifferentQuestionsDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, release := held(yes(), nil)
		s := &service{decide: func(ctx context.Context, q decision.Question) (decision.Answer, error) {
			if q.Credential.Secret == "slow" {
				return slow.Decide(ctx, q)
			}
			return yes(), nil
		}}
		c := newCache(t, s, Config{TTL: time.Minute})
		outcomes := askers(t, c, 1, question("slow"))
		decide(t, c, question("fast")) // would never return, and the bubble say so
		release()
		outcomes()
	})
}

func TestK3WhoGoesAwayLeavesTheAnswerToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, release := held(yes(), nil)
		var gone atomic.Bool
		next := &service{decide: func(ctx context.Context, q decision.Question) (decision.Answer, error) {
			a, err := s.Decide(ctx, q)
			gone.Store(ctx.Err() != nil)
			return a, err
		}}
		c := newCache(t, next, Config{TTL: time.Minute})
		first, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := c.Decide(first, question("a"))
			left <- err
		}()
		synctest.Wait()
		outcomes := askers(t, c, 10, question("a"))
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) { // at once: nothing is released yet
			t.Errorf("who goes away gets %v, want %v", err, context.Canceled)
		}
		release()
		for _, o := range outcomes() {
			if o.err != nil || !o.answer.Allowed {
				t.Errorf("who waits gets %+v, %v", o.answer, o.err)
			}
		}
		if gone.Load() {
			t.Error("the question was called off")
		}
		next.wantAsked(t, 1)
		if source := decide(t, c, question("a")).Source; source != decision.FromCache {
			t.Errorf("the next answer is from %s", source)
		}
	})
}

func TestWhoIsGoneAlreadyAsksNothing(t *testing.T) {
	s := answering(yes())
	c := newCache(t, s, Config{TTL: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Decide(ctx, question("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want %v", err, context.Canceled)
	}
	s.wantAsked(t, 0)
}

func TestAPanicIsAnErrorToAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, release := held(yes(), nil)
		panics := true
		next := &service{decide: func(ctx context.Context, q decision.Question) (decision.Answer, error) {
			a, err := s.Decide(ctx, q)
			if panics {
				panic("with " + q.Credential.Secret)
			}
			return a, err
		}}
		var log bytes.Buffer
		c := newCache(t, next, Config{TTL: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))})
		outcomes := askers(t, c, 10, question("hunter2"))
		release()
		for _, o := range outcomes() {
			if o.err == nil || o.answer.Allowed || strings.Contains(o.err.Error(), "hunter2") {
				t.Errorf("somebody got %+v, %v", o.answer, o.err)
			}
		}
		if !strings.Contains(log.String(), "flight_test.go") || strings.Count(log.String(), "\n") != 1 || strings.Contains(log.String(), "hunter2") {
			t.Errorf("the log is not one line with the place and without the credential:\n%s", log.String())
		}
		panics = false
		if !decide(t, c, question("hunter2")).Allowed {
			t.Error("the next question is refused")
		}
	})
}

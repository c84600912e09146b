package cache

import (
	"strings"
	"testing"
	"time"

	"cube/auth/decision"
)

func TestARememberedDecisionAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	for name, answer := range map[string]decision.Answer{"yes": yes(), "no": no(401)} {
		c := newCache(t, answering(answer), Config{TTL: time.Hour, RefusalTTL: time.Hour})
		for _, q := range []decision.Question{question(strings.Repeat("k", 40)), question(strings.Repeat("k", 8<<10))} {
			decide(t, c, q)
			ctx := t.Context()
			if n := testing.AllocsPerRun(1_000, func() { _, _ = c.Decide(ctx, q) }); n != 0 {
				t.Errorf("a %s to a key of %d bytes allocates %v times", name, len(q.Credential.Secret), n)
			}
		}
	}
}

func BenchmarkRemembered(b *testing.B) {
	c := newCache(b, answering(yes()), Config{TTL: time.Hour})
	q := question(strings.Repeat("k", 40))
	decide(b, c, q)
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = c.Decide(b.Context(), q)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, _ = c.Decide(b.Context(), q)
			}
		})
	})
}

func BenchmarkMiss(b *testing.B) {
	c := newCache(b, answering(reuse(yes(), 0)), Config{TTL: time.Hour})
	q := question(strings.Repeat("k", 40))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Decide(b.Context(), q)
	}
}

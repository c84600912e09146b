package telemetry

import (
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"cube"
	"cube/audit"
	"cube/auth/cache"
	"cube/auth/callback"
	"cube/auth/decision"
	"cube/lifecycle"
)

// scrape asks for the metrics as Prometheus does.
func scrape(t *testing.T, m *Metrics) (map[string]*dto.MetricFamily, string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d %s %v", w.Code, text, err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return families, string(text)
}

func allSources() Sources {
	return Sources{
		Callback: func() *callback.Stats {
			return &callback.Stats{Questions: 1, NoAnswers: 2, Retries: 4, Failovers: 6, Waiting: 7, InFlight: 3, BreakerOpen: true}
		},
		Cache: func() *cache.Stats {
			return &cache.Stats{Hits: 11, Misses: 12, Coalesced: 13, Stored: 14, Purges: 15, Entries: 16}
		},
		Shadow:    func() map[Shadow]uint64 { return map[Shadow]uint64{"allows_more": 1, secret: 2} },
		Sandboxes: func() lifecycle.Gauges { return lifecycle.Gauges{Running: 5, Paused: 6, Pooled: 7, SnapshotBytes: 8} },
		Audit:     func() *audit.Stats { return &audit.Stats{Lines: 21, Lost: 22} },
	}
}

func TestWhatIsCounted(t *testing.T) {
	m := NewMetrics(allSources())
	of := func(source decision.Source) decision.Outcome {
		return decision.Outcome{Source: source, Latency: 3 * time.Millisecond}
	}
	m.Decided(of(decision.FromCache).Granted(decision.ReasonAllowed))
	m.Decided(of(decision.FromCallback).Granted(decision.ReasonAllowed))
	m.Decided(of("").Refused(401, decision.ReasonNoCredential))
	m.Decided(of(decision.FromShadow).Granted(decision.ReasonAllowed))
	m.Asked(20*time.Millisecond, callback.OutcomeRefused)
	m.Created()
	m.Ended(cube.EndKilled)
	_, text := scrape(t, m)
	for _, want := range []string{
		`cube_auth_requests_total{reason="allowed",result="allowed"} 2`,
		`cube_auth_requests_total{reason="no_credential",result="refused"} 1`,
		`cube_auth_requests_total{reason="refused",result="refused"} 0`,
		`cube_auth_decision_seconds_count{source="cache"} 1`,
		`cube_auth_decision_seconds_bucket{source="callback",le="0.0025"} 0`,
		`cube_auth_decision_seconds_bucket{source="callback",le="0.005"} 1`,
		`cube_auth_decision_seconds_count{source="nobody"} 1`,
		`cube_auth_callback_seconds_sum{outcome="refused"} 0.02`,
		`cube_auth_callback_seconds_count{outcome="gone"} 0`,
		`cube_auth_callback_questions_total 1`,
		`cube_auth_callback_no_answers_total 2`,
		`cube_auth_callback_failovers_total 6`,
		`cube_auth_callback_waiting 7`,
		`cube_auth_callback_in_flight 3`,
		`cube_auth_callback_retries_total 4`,
		`cube_auth_callback_breaker_open 1`,
		`cube_auth_cache_hits_total 11`,
		`cube_auth_cache_misses_total 12`,
		`cube_auth_cache_coalesced_total 13`,
		`cube_auth_cache_stored_total 14`,
		`cube_auth_cache_purges_total 15`,
		`cube_auth_cache_entries 16`,
		`cube_auth_shadow_total{result="allows_more"} 1`,
		`cube_auth_shadow_total{result="no_answer"} 0`,
		`cube_auth_shadow_total{result="other"} 2`,
		`cube_sandboxes 5`,
		`cube_sandboxes_paused 6`,
		`cube_sandboxes_pooled 7`,
		`cube_snapshots_bytes 8`,
		`cube_sandboxes_created_total 1`,
		`cube_sandboxes_ended_total{reason="killed"} 1`,
		`cube_audit_lines_total 21`,
		`cube_audit_lost_lines_total 22`,
		"process_open_fds ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}

// closed are the words that labels may have.
func closed() map[string][]string {
	words := map[string][]string{
		"result":  {"allowed", "refused", "same", "identity", "allows_more", "refuses_more", "no_answer", "not_asked", other},
		"outcome": {"allowed", "refused", "no_answer", "gone", "ready", "error", other},
		"source":  {"callback", "key", "cache", "coalesced", "nobody", other},
		"kind":    {"tcp", "tls", "http", "dns", "udp", "icmp", "ip", other}, "direction": {"up", "down"},
		"reason": {"deadline", "killed", "out_of_memory", "crashed", "lost", "failed", other},
	}
	for _, reason := range decision.Reasons {
		words["reason"] = append(words["reason"], string(reason))
	}
	return words
}

func TestWhatSandboxesReachIsCounted(t *testing.T) {
	m := NewMetrics(allSources())
	m.Network("tls", true, false, 0, 0)
	m.Network("dns", false, false, 0, 0)
	m.Network("tls", true, true, 10, 200)
	_, text := scrape(t, m)
	for _, line := range []string{
		`cube_network_decisions_total{kind="tls",result="allowed"} 1`, `cube_network_decisions_total{kind="dns",result="refused"} 1`,
		`cube_network_bytes_total{direction="up"} 10`, `cube_network_bytes_total{direction="down"} 200`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}
}

func TestNoLabelHoldsWhatAClientWrote(t *testing.T) {
	m := NewMetrics(allSources())
	m.Decided(decision.Outcome{
		RequestID: secret, Method: secret, Path: secret, Remote: secret, Fingerprint: secret, Reason: secret, Source: secret,
		Identity: cube.Identity{Subject: secret, Team: secret, Key: secret, Fingerprint: secret, Scopes: []string{secret}, Templates: []string{secret}},
	})
	m.Asked(time.Second, secret)
	m.Ended(secret)
	m.Network(secret, true, false, 0, 0)
	families, text := scrape(t, m)
	if strings.Contains(text, secret) {
		t.Errorf("a client's text is in the metrics:\n%s", text)
	}
	words := closed()
	for name, family := range families {
		if !strings.HasPrefix(name, "cube_") { // the libraries' own: no part of ours feeds them
			if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
				t.Errorf("a metric of unknown origin: %s", name)
			}
			continue
		}
		for _, metric := range family.Metric {
			for _, label := range metric.Label {
				if !slices.Contains(words[label.GetName()], label.GetValue()) {
					t.Errorf("%s: the label %s=%q is of no closed set", name, label.GetName(), label.GetValue())
				}
			}
		}
	}
	if got := families["cube_auth_requests_total"]; len(got.Metric) != 2*(len(decision.Reasons)+1) {
		t.Errorf("%d series of requests, want one for each result and reason", len(got.Metric))
	}
}

func TestWhatHasNoSourceIsNotThere(t *testing.T) {
	for _, sources := range []Sources{{}, {
		Callback: func() *callback.Stats { return nil }, Cache: func() *cache.Stats { return nil },
		Shadow: func() map[Shadow]uint64 { return nil }, Audit: func() *audit.Stats { return nil },
	}} {
		families, _ := scrape(t, NewMetrics(sources))
		for _, name := range []string{
			"cube_auth_callback_in_flight", "cube_auth_cache_hits_total", "cube_auth_shadow_total", "cube_sandboxes", "cube_audit_lines_total",
		} {
			if families[name] != nil {
				t.Errorf("%s is there, and nobody counts it", name)
			}
		}
	}
}

func TestCountingWhileSomebodyReads(t *testing.T) {
	m := NewMetrics(allSources())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				m.Decided(decision.Outcome{Source: decision.FromCache}.Granted(decision.ReasonAllowed))
			}
		})
	}
	scrape(t, m)
	wg.Wait()
	if _, text := scrape(t, m); !strings.Contains(text, `{reason="allowed",result="allowed"} 400`) {
		t.Error("some were not counted")
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	m := NewMetrics(Sources{})
	o := decision.Outcome{Source: decision.FromCache, Latency: time.Microsecond}.Granted(decision.ReasonAllowed)
	if n := testing.AllocsPerRun(100, func() { m.Decided(o) }); n != 0 {
		t.Errorf("%v allocations for a decision", n)
	}
}

func BenchmarkDecided(b *testing.B) {
	m := NewMetrics(Sources{})
	o := decision.Outcome{Source: decision.FromCache, Latency: time.Microsecond}.Granted(decision.ReasonAllowed)
	b.ReportAllocs()
	for b.Loop() {
		m.Decided(o)
	}
}

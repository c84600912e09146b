// Package telemetry tells how the server does: metrics in Prometheus' form, and
// traces by OTLP where somebody takes them.
//
// It must never hold what a client wrote: labels come from closed sets, and a
// span has the method, the kind of route, the status and our own request id. No
// trace context leaves the server: neither for the auth callback nor for a
// sandbox.
package telemetry

import (
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cube"
	"cube/audit"
	"cube/auth/cache"
	"cube/auth/decision"
)

// Sources are read whenever somebody asks for metrics, concurrently. Where one is
// nil, its metrics are not there.
type Sources struct {
	CallbackInFlight func() float64 // questions at work or waiting
	CallbackRetries  func() float64 // since the start
	BreakerOpen      func() float64 // 1 while one question at a time tries whether the callback is back, else 0
	Cache            func() cache.Stats
	Sandboxes        func() float64 // that exist, those that start or end included
	Audit            func() audit.Stats
}

// Shadow is how the answer of the shadow callback compares with the first's.
type Shadow string

// The comparisons.
const (
	ShadowSame        Shadow = "same"
	ShadowAllowsMore  Shadow = "allows_more"
	ShadowRefusesMore Shadow = "refuses_more"
	ShadowNoAnswer    Shadow = "no_answer"
)

// other is the label of what is of no closed set: a mistake of ours, and no
// reason to show a stranger's text.
const other = "other"

// Metrics counts. Its methods may be called concurrently.
type Metrics struct {
	registry  *prometheus.Registry
	requests  map[bool]map[decision.Reason]prometheus.Counter // by allowed
	decisions map[decision.Source]prometheus.Observer
	callback  prometheus.Histogram
	shadow    map[Shadow]prometheus.Counter
	created   prometheus.Counter
	ended     map[cube.EndReason]prometheus.Counter
}

// The closed sets that are written down nowhere else.
var (
	sources = []decision.Source{
		decision.FromCallback, decision.FromKey, decision.FromCache, decision.FromCoalesced, fromNobody, other,
	}
	shadows = []Shadow{ShadowSame, ShadowAllowsMore, ShadowRefusesMore, ShadowNoAnswer, other}
	ends    = []cube.EndReason{
		cube.EndDeadline, cube.EndKilled, cube.EndOutOfMemory, cube.EndCrashed, cube.EndLost, cube.EndFailed, other,
	}
)

// fromNobody is the label of a decision for which nobody was asked.
const fromNobody decision.Source = "nobody"

// NewMetrics makes metrics with a registry of their own, all at zero: a rate can
// be taken from the first event on.
func NewMetrics(s Sources) *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cube_auth_requests_total", Help: "Requests that came to the door, by what became of them and why.",
	}, []string{"result", "reason"})
	decisions := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cube_auth_decision_seconds", Help: "Time until the door had decided, by who answered.",
		// From an answer out of memory to the longest patience.
		Buckets: []float64{1e-6, 1e-5, 1e-4, 5e-4, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"source"})
	callback := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "cube_auth_callback_seconds", Help: "Time that one question to the callback took, answered or not.",
		Buckets: []float64{5e-4, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
	shadow := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cube_auth_shadow_total", Help: "Answers of the shadow callback, compared with the decision.",
	}, []string{"result"})
	created := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "cube_sandboxes_created_total", Help: "Sandboxes that were created and ran.",
	})
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cube_sandboxes_ended_total", Help: "Sandboxes that ended, by why; 'failed' never ran.",
	}, []string{"reason"})
	registry.MustRegister(requests, decisions, callback, shadow, created, ended)
	registerSources(registry, s)

	reasons := append(slices.Clone(decision.Reasons), other)
	m := &Metrics{
		registry: registry, callback: callback, created: created,
		requests:  map[bool]map[decision.Reason]prometheus.Counter{},
		decisions: each(sources, func(source string) prometheus.Observer { return decisions.WithLabelValues(source) }),
		shadow:    each(shadows, func(result string) prometheus.Counter { return shadow.WithLabelValues(result) }),
		ended:     each(ends, func(reason string) prometheus.Counter { return ended.WithLabelValues(reason) }),
	}
	for allowed, result := range map[bool]string{true: "allowed", false: "refused"} {
		m.requests[allowed] = each(reasons, func(reason string) prometheus.Counter { return requests.WithLabelValues(result, reason) })
	}
	return m
}

// each makes what is counted for each word of a set.
func each[W ~string, T any](words []W, of func(string) T) map[W]T {
	set := map[W]T{}
	for _, word := range words {
		set[word] = of(string(word))
	}
	return set
}

func registerSources(registry *prometheus.Registry, s Sources) {
	gauge := func(name, help string, read func() float64) {
		if read != nil {
			registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
		}
	}
	counter := func(name, help string, read func() float64) {
		if read != nil {
			registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
		}
	}
	gauge("cube_auth_callback_in_flight", "Questions to the callback that are at work or wait.", s.CallbackInFlight)
	counter("cube_auth_callback_retries_total", "Questions that were asked again because a connection broke.", s.CallbackRetries)
	gauge("cube_auth_callback_breaker_open", "1 while one question at a time tries whether the callback is back.", s.BreakerOpen)
	gauge("cube_sandboxes", "Sandboxes that exist, those that start or end included.", s.Sandboxes)
	if read := s.Cache; read != nil {
		counter("cube_auth_cache_hits_total", "Decisions out of memory.", func() float64 { return float64(read().Hits) })
		counter("cube_auth_cache_misses_total", "Questions that the cache had to ask.", func() float64 { return float64(read().Misses) })
		counter("cube_auth_cache_coalesced_total", "Decisions that waited for somebody else's question.", func() float64 { return float64(read().Coalesced) })
		counter("cube_auth_cache_stored_total", "Answers that were remembered.", func() float64 { return float64(read().Stored) })
		counter("cube_auth_cache_purges_total", "How often everything was forgotten.", func() float64 { return float64(read().Purges) })
		gauge("cube_auth_cache_entries", "Answers that are remembered.", func() float64 { return float64(read().Entries) })
	}
	if read := s.Audit; read != nil {
		counter("cube_audit_lines_total", "Lines written to the audit log.", func() float64 { return float64(read().Lines) })
		counter("cube_audit_lost_lines_total", "Lines that the audit log's disk refused.", func() float64 { return float64(read().Lost) })
	}
}

// of returns what is counted under a word, or under other.
func of[W ~string, T any](set map[W]T, word W) T {
	if t, known := set[word]; known {
		return t
	}
	return set[other]
}

// Decided counts what the door did with a request. It costs a cached decision
// little, and allocates nothing.
func (m *Metrics) Decided(o decision.Outcome) {
	of(m.requests[o.Allowed], o.Reason).Inc()
	source := o.Source
	if source == "" {
		source = fromNobody
	}
	of(m.decisions, source).Observe(o.Latency.Seconds())
}

// Asked counts one question to the callback, and how long it took.
func (m *Metrics) Asked(took time.Duration) { m.callback.Observe(took.Seconds()) }

// Compared counts an answer of the shadow callback.
func (m *Metrics) Compared(result Shadow) { of(m.shadow, result).Inc() }

// Created counts a sandbox that runs.
func (m *Metrics) Created() { m.created.Inc() }

// Ended counts a sandbox that ended.
func (m *Metrics) Ended(reason cube.EndReason) { of(m.ended, reason).Inc() }

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

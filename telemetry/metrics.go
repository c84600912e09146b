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
	"cube/auth/callback"
	"cube/auth/decision"
)

// other is the label of what is of no closed set: a mistake of ours, and no
// reason to show a stranger's text.
const other = "other"

// Metrics counts. Its methods may be called concurrently.
type Metrics struct {
	registry  *prometheus.Registry
	requests  map[bool]map[decision.Reason]prometheus.Counter // by allowed
	decisions map[decision.Source]prometheus.Observer
	callback  map[string]prometheus.Observer // by outcome
	created   prometheus.Counter
	ended     map[cube.EndReason]prometheus.Counter
	network   map[bool]map[string]prometheus.Counter // by allowed and kind
	bytes     map[string]prometheus.Counter          // by direction
	builds    map[bool]prometheus.Observer           // by whether they succeeded
}

// The closed sets that are written down nowhere else.
var (
	sources = []decision.Source{
		decision.FromCallback, decision.FromKey, decision.FromCache, decision.FromCoalesced, fromNobody, other,
	}
	kinds      = []string{"tcp", "tls", "http", "dns", "udp", "icmp", "ip", other}
	directions = []string{"up", "down"}
	ends       = []cube.EndReason{
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
	asked := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cube_auth_callback_seconds", Help: "Time that a question to the callback took, by how it ended.",
		Buckets: []float64{5e-4, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"outcome"})
	created := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "cube_sandboxes_created_total", Help: "Sandboxes that were created and ran.",
	})
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cube_sandboxes_ended_total", Help: "Sandboxes that ended, by why; 'failed' never ran.",
	}, []string{"reason"})
	builds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cube_build_seconds", Help: "Time that builds of templates took, by how they ended.",
		Buckets: []float64{.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600},
	}, []string{"outcome"})
	network := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cube_network_decisions_total", Help: "What sandboxes wanted to reach, by kind and whether they could: what went through the gate, and what the firewall refused.",
	}, []string{"kind", "result"})
	carried := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cube_network_bytes_total", Help: "Bytes of connections through the gate that have ended.",
	}, []string{"direction"})
	registry.MustRegister(network, carried, requests, decisions, asked, created, ended, builds, collector{s})

	reasons := append(slices.Clone(decision.Reasons), other)
	outcomes := append(slices.Clone(callback.Outcomes), other)
	m := &Metrics{
		registry: registry, created: created,
		requests:  map[bool]map[decision.Reason]prometheus.Counter{},
		decisions: each(sources, func(source string) prometheus.Observer { return decisions.WithLabelValues(source) }),
		callback:  each(outcomes, func(outcome string) prometheus.Observer { return asked.WithLabelValues(outcome) }),
		network:   map[bool]map[string]prometheus.Counter{},
		bytes:     each(directions, func(direction string) prometheus.Counter { return carried.WithLabelValues(direction) }),
		ended:     each(ends, func(reason string) prometheus.Counter { return ended.WithLabelValues(reason) }),
	}
	m.builds = map[bool]prometheus.Observer{true: builds.WithLabelValues("ready"), false: builds.WithLabelValues("error")}
	for allowed, result := range map[bool]string{true: "allowed", false: "refused"} {
		m.requests[allowed] = each(reasons, func(reason string) prometheus.Counter { return requests.WithLabelValues(result, reason) })
		m.network[allowed] = each(kinds, func(kind string) prometheus.Counter {
			return network.WithLabelValues(kind, result)
		})
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

// of returns what is counted under a word, or under other.
func of[W ~string, T any](set map[W]T, word W) T {
	if t, known := set[word]; known {
		return t
	}
	return set[other]
}

// Decided counts what the door did with a request. It costs a cached decision
// little, and allocates nothing. What a shadow would have done is no decision:
// see Sources.Shadow.
func (m *Metrics) Decided(o decision.Outcome) {
	if o.Source == decision.FromShadow {
		return
	}
	of(m.requests[o.Allowed], o.Reason).Inc()
	source := o.Source
	if source == "" {
		source = fromNobody
	}
	of(m.decisions, source).Observe(o.Latency.Seconds())
}

// Asked counts one question to the callback, how long it took and how it ended.
// It is made to be callback's Config.Observe.
func (m *Metrics) Asked(took time.Duration, outcome string) {
	of(m.callback, outcome).Observe(took.Seconds())
}

// Created counts a sandbox that runs.
func (m *Metrics) Created() { m.created.Inc() }

// Ended counts a sandbox that ended.
func (m *Metrics) Ended(reason cube.EndReason) { of(m.ended, reason).Inc() }

// Network counts what a sandbox wanted to reach, or what was carried for it when
// that has ended.
func (m *Metrics) Network(kind string, allowed, ended bool, up, down int64) {
	if !ended {
		of(m.network[allowed], kind).Inc()
		return
	}
	m.bytes["up"].Add(float64(up))
	m.bytes["down"].Add(float64(down))
}

// Built counts a template's build that ended.
func (m *Metrics) Built(ready bool, took time.Duration) { m.builds[ready].Observe(took.Seconds()) }

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

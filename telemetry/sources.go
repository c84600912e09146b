package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"cube/audit"
	"cube/auth/cache"
	"cube/auth/callback"
	"cube/build"
	"cube/lifecycle"
)

// Sources are read whenever somebody asks for metrics, concurrently. What is not
// there, a nil function or a nil answer, has no metrics: which parts there are
// can change while the server runs.
type Sources struct {
	Callback  func() *callback.Stats
	Cache     func() *cache.Stats
	Shadow    func() map[Shadow]uint64
	Sandboxes func() lifecycle.Gauges
	Builds    func() build.Gauges
	Audit     func() *audit.Stats
	Packed    func() *Packed
	Traffic   func() *Traffic
}

// Traffic is what all sandboxes have sent, received and opened together.
type Traffic struct {
	Sent, Received       uint64 // bytes
	Connections, Refused uint64
}

// Packed is how much is in packed snapshots, in bytes.
type Packed struct {
	Content int64 // of all of them
	Unique  int64 // of that, what is kept once
	Disk    int64 // that it takes, compressed
}

// Shadow is how an answer of the shadow callback compares with the first's.
type Shadow string

// shadows are the comparisons, in the door's words. Another is counted as other.
var shadows = []Shadow{"same", "identity", "allows_more", "refuses_more", "no_answer", "not_asked"}

// collector is a prometheus.Collector that reads sources.
type collector struct{ Sources }

// Describe implements prometheus.Collector: what there will be is not known.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	emit := func(kind prometheus.ValueType, name, help string, value float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), kind, value)
	}
	counter := func(name, help string, value uint64) { emit(prometheus.CounterValue, name, help, float64(value)) }
	gauge := func(name, help string, value int) { emit(prometheus.GaugeValue, name, help, float64(value)) }

	if s := read(c.Callback); s != nil {
		counter("cube_auth_callback_questions_total", "Questions to the callback that ended.", s.Questions)
		counter("cube_auth_callback_no_answers_total", "Questions to the callback to which nobody said yes or no.", s.NoAnswers)
		counter("cube_auth_callback_retries_total", "Questions that were asked again because a connection broke.", s.Retries)
		counter("cube_auth_callback_failovers_total", "Questions that went on to the next URL.", s.Failovers)
		gauge("cube_auth_callback_waiting", "Questions that wait for a place, or for the callback to be back.", s.Waiting)
		gauge("cube_auth_callback_in_flight", "Questions that the callback has.", s.InFlight)
		open := 0
		if s.BreakerOpen {
			open = 1
		}
		gauge("cube_auth_callback_breaker_open", "1 while one question at a time tries whether the callback is back.", open)
	}
	if s := read(c.Cache); s != nil {
		counter("cube_auth_cache_hits_total", "Decisions out of memory.", s.Hits)
		counter("cube_auth_cache_misses_total", "Questions that the cache had to ask.", s.Misses)
		counter("cube_auth_cache_coalesced_total", "Decisions that waited for somebody else's question.", s.Coalesced)
		counter("cube_auth_cache_stored_total", "Answers that were remembered.", s.Stored)
		counter("cube_auth_cache_purges_total", "How often everything was forgotten.", s.Purges)
		gauge("cube_auth_cache_entries", "Answers that are remembered.", s.Entries)
	}
	if c.Shadow != nil {
		collectShadow(out, c.Shadow())
	}
	if c.Sandboxes != nil {
		s := c.Sandboxes()
		gauge("cube_sandboxes", "Sandboxes that run, those that start or end included.", s.Running)
		gauge("cube_sandboxes_paused", "Sandboxes that are paused.", s.Paused)
		gauge("cube_snapshots_bytes", "Bytes on the disk of what is paused and of snapshots.", int(s.SnapshotBytes))
		gauge("cube_sandboxes_pooled", "Sandboxes that run and wait for whoever comes next.", s.Pooled)
	}
	if c.Builds != nil {
		b := c.Builds()
		gauge("cube_builds_running", "Builds of templates that run.", b.Running)
		gauge("cube_builds_waiting", "Builds of templates that wait for a place.", b.Waiting)
	}
	if s := read(c.Packed); s != nil {
		gauge("cube_snapshots_packed_bytes", "Bytes of all packed snapshots together.", int(s.Content))
		gauge("cube_snapshots_packed_unique_bytes", "Bytes of packed snapshots that are kept, what several have once.", int(s.Unique))
		gauge("cube_snapshots_packed_disk_bytes", "Bytes that packed snapshots take on the disk.", int(s.Disk))
	}
	if s := read(c.Traffic); s != nil {
		counter("cube_network_link_sent_bytes_total", "Bytes that sandboxes have sent, to the internet and to the server.", s.Sent)
		counter("cube_network_link_received_bytes_total", "Bytes that sandboxes have received, from the internet and from the server.", s.Received)
		counter("cube_network_connections_total", "Connections that sandboxes began, of all protocols.", s.Connections)
		counter("cube_network_connections_limited_total", "Connections of sandboxes that were refused for there were too many.", s.Refused)
	}
	if s := read(c.Audit); s != nil {
		counter("cube_audit_lines_total", "Lines written to the audit log.", s.Lines)
		counter("cube_audit_lost_lines_total", "Lines that the audit log's disk refused.", s.Lost)
	}
}

func collectShadow(out chan<- prometheus.Metric, counts map[Shadow]uint64) {
	if counts == nil {
		return
	}
	known := each(shadows, func(string) uint64 { return 0 })
	for result, n := range counts {
		if _, is := known[result]; !is {
			result = other
		}
		known[result] += n
	}
	desc := prometheus.NewDesc("cube_auth_shadow_total", "Answers of the shadow callback, compared with the decision.", []string{"result"}, nil)
	for result, n := range known {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), string(result))
	}
}

func read[T any](source func() *T) *T {
	if source == nil {
		return nil
	}
	return source()
}

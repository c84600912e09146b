package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cube"
	"cube/api/gen"
)

// maxMetricsOf is how many sandboxes one request may ask about.
const maxMetricsOf = 100

// span reads start and end, in Unix seconds. Without them it is all there is.
func span(query url.Values) (from, to time.Time, err error) {
	from, to = time.Unix(0, 0), time.Now()
	for name, at := range map[string]*time.Time{"start": &from, "end": &to} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || seconds < 0 || seconds > 1<<40 {
			return from, to, cube.Errorf(cube.Invalid, "validation error: %s must be a time in Unix seconds", name)
		}
		*at = time.Unix(seconds, 0)
	}
	if to.After(lastTime) {
		return from, to, cube.Errorf(cube.Invalid, "validation error: end time cannot be after %s", lastTime.Format(time.DateOnly))
	}
	if from.After(to) {
		return from, to, cube.Errorf(cube.Invalid, "validation error: start must not be after end")
	}
	return from, to, nil
}

// lastTime is the last that E2B's own history can name.
var lastTime = time.Date(2299, 12, 31, 23, 59, 59, 0, time.UTC)

// GET /sandboxes/{sandboxID}/metrics
func (a *api) getMetrics(w http.ResponseWriter, r *http.Request) error {
	id, query, err := sandboxQuery(r)
	if err != nil {
		return err
	}
	from, to, err := span(query)
	if err != nil {
		return err
	}
	metrics, err := a.history.Metrics(r.Context(), id, from, to)
	if err != nil {
		return err
	}
	list := make([]gen.SandboxMetric, len(metrics))
	for i, m := range metrics {
		list[i] = metric(m)
	}
	return writeJSON(w, http.StatusOK, list)
}

// GET /sandboxes/metrics
func (a *api) listMetrics(w http.ResponseWriter, r *http.Request) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	ids := strings.Split(strings.Join(query["sandbox_ids"], ","), ",")
	if len(ids) > maxMetricsOf {
		return cube.Errorf(cube.Invalid, "validation error: sandbox_ids may hold %d ids", maxMetricsOf)
	}
	found := map[string]gen.SandboxMetric{}
	for _, text := range ids {
		id, err := cube.ParseSandboxID(text)
		if err != nil {
			continue // as one that is not known
		}
		m, ok, err := a.history.Newest(r.Context(), id)
		switch {
		case cube.KindOf(err) == cube.NotFound:
		case err != nil:
			return err
		case ok:
			found[text] = metric(m)
		}
	}
	return writeJSON(w, http.StatusOK, gen.SandboxesWithMetrics{Sandboxes: found})
}

func metric(m cube.Metric) gen.SandboxMetric {
	return gen.SandboxMetric{
		Timestamp: m.At, TimestampUnix: m.At.Unix(), CpuCount: int32(m.CPUs), CpuUsedPct: m.CPUUsedPct,
		MemUsed: m.MemoryUsed, MemTotal: m.MemoryTotal, MemCache: m.MemoryCache, DiskUsed: m.DiskUsed, DiskTotal: m.DiskTotal,
	}
}

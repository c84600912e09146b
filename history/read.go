package history

import (
	"context"
	"time"

	"cube"
)

// Bounds of one answer.
const (
	MaxMetrics = 20_000 // a day's
	MaxLines   = 1000
)

// Metrics returns what a sandbox of the caller's used between two times, both
// included, the oldest first. It may have ended. Kind: NotFound.
func (r *Recorder) Metrics(ctx context.Context, id cube.SandboxID, from, to time.Time) ([]cube.Metric, error) {
	if _, err := r.cfg.Sandboxes.Known(ctx, id); err != nil {
		return nil, err
	}
	return r.cfg.Store.Metrics(ctx, id, from, to, MaxMetrics)
}

// Newest returns what a sandbox of the caller's used last; false if nothing is
// known. Kind: NotFound.
func (r *Recorder) Newest(ctx context.Context, id cube.SandboxID) (cube.Metric, bool, error) {
	if _, err := r.cfg.Sandboxes.Known(ctx, id); err != nil {
		return cube.Metric{}, false, err
	}
	list, err := r.cfg.Store.Metrics(ctx, id, time.Unix(0, 0), time.Now(), 1)
	if err != nil || len(list) == 0 {
		return cube.Metric{}, false, err
	}
	return list[0], true, nil
}

// Lines returns what processes of a sandbox of the caller's printed. It may have
// ended. Kind: NotFound.
func (r *Recorder) Lines(ctx context.Context, id cube.SandboxID, q cube.LogQuery) ([]cube.LogLine, error) {
	if _, err := r.cfg.Sandboxes.Known(ctx, id); err != nil {
		return nil, err
	}
	q.Limit = max(0, min(q.Limit, MaxLines))
	return r.cfg.Store.LogLines(ctx, id, q)
}

// TeamMetric is how many sandboxes there were in a span of time.
type TeamMetric struct {
	At         time.Time
	Concurrent int
	StartRate  float64 // sandboxes a second
}

// teamSteps is how many spans one answer has at the most.
const teamSteps = 200

// Team returns the caller's sandboxes over time, in equal spans, the oldest
// first: as far back as rows of ended ones are kept.
func (r *Recorder) Team(ctx context.Context, from, to time.Time) ([]TeamMetric, error) {
	all, err := r.cfg.Sandboxes.All(ctx)
	if err != nil {
		return nil, err
	}
	step := max(interval, to.Sub(from)/teamSteps)
	list := []TeamMetric{}
	for at := from; !at.After(to); at = at.Add(step) {
		m := TeamMetric{At: at}
		started := 0
		for _, s := range all {
			if !s.StartedAt.After(at) && (s.End == nil || s.End.At.After(at)) {
				m.Concurrent++
			}
			if s.StartedAt.After(at.Add(-step)) && !s.StartedAt.After(at) {
				started++
			}
		}
		m.StartRate = float64(started) / step.Seconds()
		list = append(list, m)
	}
	return list, nil
}

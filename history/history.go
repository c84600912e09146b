// Package history remembers what sandboxes used and what their processes printed.
//
// What it learns comes out of sandboxes: it must never believe a size, a time or
// a number in it, never keep more of one sandbox than its bounds, and never make
// anybody wait.
package history

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cube"
	"cube/lifecycle"
	"cube/store/sqlite"
)

const (
	// interval is how often every sandbox is asked: E2B's is the same. A new one
	// is asked at the next beat.
	interval = 5 * time.Second
	beat     = time.Second
	// patience bounds one question, and atATime how many there are.
	patience = 3 * time.Second
	atATime  = 4
	// keepFor and keepLines bound what is kept of one sandbox, and keepOfAll the
	// lines of all, the ended ones too: whoever makes sandboxes, has them print and
	// kills them must not fill the disk. It is some GiB at the very most.
	keepFor   = 24 * time.Hour
	keepLines = 10_000
	keepOfAll = 500_000
	// cleanEvery is how often what is too old is removed.
	cleanEvery = 10 * time.Minute
	// maxPages bounds how many pages of lines are fetched in one go: a sandbox
	// that prints without end is behind, and loses lines.
	maxPages = 4
	// The bounds of a line, whatever the agent says.
	maxMessage = 4 << 10
	maxField   = 256
	maxFields  = 8
	maxEpoch   = 64
)

// Config is what a recorder needs.
type Config struct {
	Sandboxes *lifecycle.Sandboxes
	Store     *sqlite.Store
	Log       *slog.Logger
}

// Recorder asks sandboxes.
type Recorder struct {
	cfg   Config
	known map[cube.SandboxID]*place // of the sandboxes that run
}

// place is how far one sandbox was asked.
type place struct {
	asked   time.Time
	epoch   string
	seq     uint64
	cpu     time.Duration // what it had used then
	hasCPU  bool
	sampled time.Time
}

// New makes a recorder.
func New(c Config) *Recorder { return &Recorder{cfg: c, known: map[cube.SandboxID]*place{}} }

// Run asks until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	ticks := time.NewTicker(beat)
	defer ticks.Stop()
	var cleaned time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			r.ask(ctx, now)
			if now.Sub(cleaned) >= cleanEvery {
				cleaned = now
				r.report(ctx, r.cfg.Store.DeleteHistory(ctx, now.Add(-keepFor)))
			}
		}
	}
}

func (r *Recorder) report(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		r.cfg.Log.Error("the history of sandboxes was not written", "error", err)
	}
}

// ask asks those whose turn it is, and writes down all that they say at once.
func (r *Recorder) ask(ctx context.Context, now time.Time) {
	running := map[cube.SandboxID]bool{}
	var due []cube.SandboxID
	for _, id := range r.cfg.Sandboxes.Running() {
		running[id] = true
		if p := r.known[id]; p == nil || now.Sub(p.asked) >= interval {
			due = append(due, id)
		}
	}
	maps.DeleteFunc(r.known, func(id cube.SandboxID, _ *place) bool { return !running[id] })
	if len(due) == 0 {
		return
	}
	var (
		mu       sync.Mutex
		recorded []sqlite.Recorded
		asking   errgroup.Group
	)
	asking.SetLimit(atATime)
	for _, id := range due {
		p := r.known[id]
		if p == nil {
			p = &place{}
			epoch, seq, err := r.cfg.Store.LastLine(ctx, id)
			if err != nil {
				r.report(ctx, err)
				continue
			}
			p.epoch, p.seq = epoch, seq
			r.known[id] = p
		}
		p.asked = now
		asking.Go(func() error {
			asked, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			if one, ok := r.askOne(asked, id, p); ok {
				mu.Lock()
				recorded = append(recorded, one)
				mu.Unlock()
			}
			return nil
		})
	}
	_ = asking.Wait() // none fails
	if err := r.cfg.Store.AddHistory(ctx, recorded, keepLines, keepOfAll); err != nil {
		r.report(ctx, err)
		clear(r.known) // the next question is for what follows the last line that is kept
	}
}

// askOne asks one sandbox. A silent agent is no reason to forget what the engine
// knows of it.
func (r *Recorder) askOne(ctx context.Context, id cube.SandboxID, p *place) (one sqlite.Recorded, ok bool) {
	one.Sandbox = id
	said, err := r.lines(ctx, id, p, &one)
	stats, engineErr := r.cfg.Sandboxes.StatsOf(ctx, id)
	if engineErr != nil {
		return one, len(one.Lines) > 0
	}
	now := time.Now()
	limits := stats.Resources
	m := cube.Metric{
		At: now.UTC().Truncate(time.Second), CPUs: limits.CPUs,
		MemoryUsed: stats.MemoryBytes, MemoryTotal: int64(limits.MemoryMB) << 20, DiskTotal: int64(limits.DiskMB) << 20,
	}
	if !p.hasCPU { // of all its time until now
		p.sampled = stats.StartedAt
	}
	if passed := now.Sub(p.sampled); passed > 0 {
		m.CPUUsedPct = min(100, max(0, 100*float64(stats.CPU-p.cpu)/float64(passed)/float64(max(1, limits.CPUs))))
	}
	p.cpu, p.hasCPU, p.sampled = stats.CPU, true, now
	if err == nil {
		m.MemoryCache = clamp(said.Metrics.MemCache, m.MemoryTotal)
		m.DiskUsed = clamp(said.Metrics.DiskUsed, m.DiskTotal)
	}
	one.Metric = m
	return one, true
}

// lines fetches what was printed since last time.
func (r *Recorder) lines(ctx context.Context, id cube.SandboxID, p *place, one *sqlite.Recorded) (said lifecycle.Record, err error) {
	for range maxPages {
		if said, err = r.cfg.Sandboxes.Record(ctx, id, p.epoch, p.seq); err != nil {
			return said, err
		}
		if len(said.Logs.Epoch) > maxEpoch {
			return said, nil
		}
		if one.Epoch != "" && one.Epoch != said.Logs.Epoch {
			return said, nil // another log: next time
		}
		if said.Logs.Epoch != p.epoch {
			p.epoch, p.seq = said.Logs.Epoch, 0
		}
		one.Epoch = p.epoch
		now := time.Now().UTC()
		for _, line := range said.Logs.Lines {
			if line.Seq <= p.seq || line.Seq > 1<<62 {
				continue // no sequence of ours
			}
			p.seq = line.Seq
			one.Seqs = append(one.Seqs, line.Seq)
			one.Lines = append(one.Lines, believable(line.Time, now, line.Level, line.Message, line.Fields))
		}
		if !said.Logs.More || len(said.Logs.Lines) == 0 {
			break
		}
	}
	return said, nil
}

// believable is a line within bounds.
func believable(at, now time.Time, level, message string, fields map[string]string) cube.LogLine {
	if at.After(now) || now.Sub(at) > keepFor {
		at = now
	}
	l := cube.LogLine{At: at.UTC().Truncate(time.Millisecond), Level: cube.LogLevel(level), Message: text(message, maxMessage)}
	if !slices.Contains(cube.LogLevels, l.Level) {
		l.Level = cube.LevelInfo
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if len(l.Fields) == maxFields {
			break
		}
		if l.Fields == nil {
			l.Fields = map[string]string{}
		}
		l.Fields[text(name, maxField)] = text(fields[name], maxField)
	}
	return l
}

func text(s string, most int) string {
	return strings.ToValidUTF8(s[:min(len(s), most)], "\uFFFD")
}

func clamp(n, most int64) int64 { return max(0, min(n, most)) }

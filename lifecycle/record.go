package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"cube"
)

// maxRecordBytes and maxRecordLines are what is read of an agent's record: ours
// sends less. Without the second, many small lines would take twenty times the
// memory of their bytes.
const (
	maxRecordBytes = 4 << 20
	maxRecordLines = 1024
)

// Record is what a sandbox's agent says of it. Nothing in it can be trusted.
type Record struct {
	Metrics struct {
		CPUUsedPct float64 `json:"cpu_used_pct"`
		MemUsed    int64   `json:"mem_used"`
		MemTotal   int64   `json:"mem_total"`
		MemCache   int64   `json:"mem_cache"`
		DiskUsed   int64   `json:"disk_used"`
		DiskTotal  int64   `json:"disk_total"`
	} `json:"metrics"`
	Logs struct {
		Epoch string      `json:"epoch"`
		Lines recordLines `json:"lines"`
		More  bool        `json:"more"`
	} `json:"logs"`
}

// RecordLine is one line of an agent's log.
type RecordLine struct {
	Seq     uint64            `json:"seq"`
	Time    time.Time         `json:"time"`
	Level   string            `json:"level"`
	Message string            `json:"message"`
	Fields  map[string]string `json:"fields"`
}

// recordLines are at most maxRecordLines.
type recordLines []RecordLine

// UnmarshalJSON implements json.Unmarshaler.
func (l *recordLines) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('[') {
		return errors.Join(errors.New("the agent's lines are no list"), err)
	}
	for decoder.More() {
		if len(*l) == maxRecordLines {
			return fmt.Errorf("the agent sends more than %d lines", maxRecordLines)
		}
		var line RecordLine
		if err := decoder.Decode(&line); err != nil {
			return err
		}
		*l = append(*l, line)
	}
	return nil
}

// Record asks the agent of a running sandbox, whoever's, for the lines that
// follow one of its log, and what it uses.
func (s *Sandboxes) Record(ctx context.Context, id cube.SandboxID, epoch string, seq uint64) (r Record, err error) {
	l := s.find(id)
	if l == nil || !l.awake.Load() {
		return r, errNoSandbox(id)
	}
	if !l.mu.TryLock() { // something is done to it, which may take its time
		return r, errBusy(id)
	}
	key := l.sandbox.HostKey
	l.mu.Unlock()
	query := url.Values{"epoch": {epoch}, "seq": {strconv.FormatUint(seq, 10)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/record?"+query.Encode(), nil)
	if err != nil {
		return r, err
	}
	req.Header.Set("X-Host-Key", key)
	resp, err := agentTransport(s.engine, id).RoundTrip(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return r, fmt.Errorf("the agent answered %d, not 200", resp.StatusCode)
	}
	return r, json.NewDecoder(io.LimitReader(resp.Body, maxRecordBytes)).Decode(&r)
}

// Usage is what a sandbox uses, of what it may.
type Usage struct {
	cube.Stats
	Resources cube.Resources
	StartedAt time.Time
}

// StatsOf returns what a running sandbox uses, whoever's. Kind: NotFound.
func (s *Sandboxes) StatsOf(ctx context.Context, id cube.SandboxID) (u Usage, err error) {
	l := s.find(id)
	if l == nil || !l.awake.Load() {
		return u, errNoSandbox(id)
	}
	if !l.mu.TryLock() {
		return u, errBusy(id)
	}
	u.Resources, u.StartedAt = l.sandbox.Resources, l.sandbox.StartedAt
	l.mu.Unlock()
	u.Stats, err = s.engine.Stats(ctx, id)
	return u, err
}

// Running returns the ids of the sandboxes that run, whoever's.
func (s *Sandboxes) Running() []cube.SandboxID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]cube.SandboxID, 0, len(s.live))
	for id, l := range s.live {
		if l.awake.Load() {
			ids = append(ids, id)
		}
	}
	return ids
}

// Known returns a sandbox of the caller's, also one that ended, for as long as
// its row is kept. Kind: NotFound.
func (s *Sandboxes) Known(ctx context.Context, id cube.SandboxID) (cube.Sandbox, error) {
	return s.row(ctx, id)
}

// allAtOnce is how many rows All reads at once: each may hold a megabyte.
const allAtOnce = 100

// All returns every sandbox of the caller's of which there is a row, those that
// ended included, the oldest first; without their environment and metadata, which
// of ten thousand would be more than the server's memory.
func (s *Sandboxes) All(ctx context.Context) ([]cube.Sandbox, error) {
	_, sees, err := s.owner(ctx)
	if err != nil {
		return nil, err
	}
	var all []cube.Sandbox
	for query := (cube.SandboxQuery{Owner: sees, Ascending: true, Limit: allAtOnce}); ; {
		page, _, err := s.store.ListSandboxes(ctx, query)
		if err != nil {
			return nil, err
		}
		for _, sandbox := range page {
			sandbox.EnvVars, sandbox.Metadata = nil, nil
			all = append(all, sandbox)
		}
		if len(page) < allAtOnce {
			return all, nil
		}
		last := page[len(page)-1]
		query.After = &cube.SandboxCursor{StartedAt: last.StartedAt, ID: last.ID}
	}
}

func errBusy(id cube.SandboxID) error {
	return cube.Errorf(cube.Unavailable, "Sandbox %s is busy: ask again in a moment", id)
}

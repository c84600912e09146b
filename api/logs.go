package api

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"cube"
	"cube/api/gen"
	"cube/history"
)

// maxSearch is the longest text to search for, in bytes.
const maxSearch = 256

// logQuery reads what both versions have: name is that of the place to begin.
func logQuery(query url.Values, name string) (q cube.LogQuery, err error) {
	q.Limit = history.MaxLines
	if text := query.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 0 || q.Limit > history.MaxLines {
			return q, cube.Errorf(cube.Invalid, "validation error: limit must be a number from 0 to %d", history.MaxLines)
		}
	}
	if text := query.Get(name); text != "" {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms < 0 {
			return q, cube.Errorf(cube.Invalid, "validation error: %s must be a time in Unix milliseconds", name)
		}
		q.From = time.UnixMilli(ms)
	}
	return q, nil
}

// GET /sandboxes/{sandboxID}/logs
func (a *api) getLogs(w http.ResponseWriter, r *http.Request) error {
	id, query, err := sandboxQuery(r)
	if err != nil {
		return err
	}
	q, err := logQuery(query, "start")
	if err != nil {
		return err
	}
	lines, err := a.history.Lines(r.Context(), id, q)
	if err != nil {
		return err
	}
	answer := gen.SandboxLogs{Logs: []gen.SandboxLog{}, LogEntries: entries(lines)}
	for _, l := range lines {
		// E2B's command line expects a JSON object with these three in each line.
		object := map[string]string{"logger": "process", "level": string(l.Level), "message": l.Message}
		for name, value := range l.Fields {
			if _, taken := object[name]; !taken {
				object[name] = value
			}
		}
		line, err := json.Marshal(object)
		if err != nil {
			return err
		}
		answer.Logs = append(answer.Logs, gen.SandboxLog{Timestamp: l.At, Line: string(line)})
	}
	return writeJSON(w, http.StatusOK, answer)
}

// GET /v2/sandboxes/{sandboxID}/logs
func (a *api) getLogsV2(w http.ResponseWriter, r *http.Request) error {
	id, query, err := sandboxQuery(r)
	if err != nil {
		return err
	}
	q, err := logQuery(query, "cursor")
	if err != nil {
		return err
	}
	switch query.Get("direction") {
	case "", "forward":
	case "backward":
		q.Backward = true
	default:
		return cube.Errorf(cube.Invalid, "validation error: direction must be forward or backward")
	}
	if level := query.Get("level"); level != "" {
		if q.Level = cube.LogLevel(level); !slices.Contains(cube.LogLevels, q.Level) {
			return cube.Errorf(cube.Invalid, "validation error: level must be debug, info, warn or error")
		}
	}
	if q.Search = query.Get("search"); len(q.Search) > maxSearch {
		return cube.Errorf(cube.Invalid, "validation error: search may have %d characters", maxSearch)
	}
	lines, err := a.history.Lines(r.Context(), id, q)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, gen.SandboxLogsV2Response{Logs: entries(lines)})
}

func entries(lines []cube.LogLine) []gen.SandboxLogEntry {
	list := make([]gen.SandboxLogEntry, len(lines))
	for i, l := range lines {
		fields := gen.StringMap(l.Fields)
		if fields == nil {
			fields = gen.StringMap{}
		}
		list[i] = gen.SandboxLogEntry{Timestamp: l.At, Level: gen.LogLevel(l.Level), Message: l.Message, Fields: fields}
	}
	return list
}

package audit

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// Format is how an export is written.
type Format string

// The formats.
const (
	JSONL Format = "jsonl" // the lines as they are in the log
	CSV   Format = "csv"   // for a spreadsheet: a line of names, and a column for each field
)

// Export writes the records of a log that pass the filter, the oldest first, and
// returns how many lines of it could not be read: see Read.
func Export(ctx context.Context, w io.Writer, dir string, f Filter, format Format) (unreadable int, err error) {
	out := bufio.NewWriter(w)
	if format != CSV {
		unreadable, err = Read(ctx, dir, f, func(_ *Record, line []byte) error {
			_, err := out.Write(append(line, '\n'))
			return err
		})
		return unreadable, errors.Join(err, out.Flush())
	}
	table := csv.NewWriter(out)
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	started := false
	unreadable, err = Read(ctx, dir, f, func(r *Record, _ []byte) error {
		if !started {
			started = true
			if err := table.Write(names); err != nil {
				return err
			}
		}
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = cell(c.value(r))
		}
		return table.Write(row)
	})
	if err == nil && !started {
		err = table.Write(names)
	}
	table.Flush()
	return unreadable, errors.Join(err, table.Error(), out.Flush())
}

// columns are a table's, in their order.
var columns = []struct {
	name  string
	value func(*Record) string
}{
	{"time", func(r *Record) string { return r.Time.Format(time.RFC3339Nano) }},
	{"action", func(r *Record) string { return string(r.Action) }},
	{"outcome", func(r *Record) string { return string(r.Outcome) }},
	{"reason", func(r *Record) string { return r.Reason }},
	{"request_id", func(r *Record) string { return r.RequestID }},
	{"remote", func(r *Record) string { return r.Remote }},
	{"subject", func(r *Record) string { return r.Subject }},
	{"team", func(r *Record) string { return r.Team }},
	{"key", func(r *Record) string { return r.Key }},
	{"fingerprint", func(r *Record) string { return r.Fingerprint }},
	{"sandbox", func(r *Record) string { return r.Sandbox }},
	{"owner_subject", func(r *Record) string { return r.OwnerSubject }},
	{"owner_team", func(r *Record) string { return r.OwnerTeam }},
	{"template", func(r *Record) string { return r.Template }},
	{"deadline", func(r *Record) string {
		if r.Deadline == nil {
			return ""
		}
		return r.Deadline.Format(time.RFC3339Nano)
	}},
	{"method", func(r *Record) string { return r.Method }},
	{"path", func(r *Record) string { return r.Path }},
	{"source", func(r *Record) string { return r.Source }},
	{"latency_us", func(r *Record) string { return number(r.LatencyUS) }},
	{"user", func(r *Record) string { return r.User }},
	{"command", func(r *Record) string { return list(r.Command) }},
	{"paths", func(r *Record) string { return list(r.Paths) }},
	{"process", func(r *Record) string { return r.Process }},
	{"signal", func(r *Record) string { return r.Signal }},
	{"name", func(r *Record) string { return r.Name }},
	{"address", func(r *Record) string { return r.Address }},
	{"protocol", func(r *Record) string { return r.Protocol }},
	{"rule", func(r *Record) string { return r.Rule }},
	{"bytes_up", func(r *Record) string { return number(r.Up) }},
	{"bytes_down", func(r *Record) string { return number(r.Down) }},
	{"status", func(r *Record) string { return number(int64(r.Status)) }},
	{"cut", func(r *Record) string { return strconv.FormatBool(r.Cut) }},
	{"incomplete", func(r *Record) string { return strconv.FormatBool(r.Incomplete) }},
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// list is a list in one cell: a JSON array, so that a blank in a name does not
// make two of it.
func list(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	array, _ := json.Marshal(texts) // strings alone: it cannot fail
	return string(array)
}

// cell keeps a spreadsheet from taking a text for a formula, which it would run:
// a quote before it makes it text. Control characters, which some programs skip
// before they look, are shown as escapes.
func cell(text string) string {
	text = strings.ReplaceAll(string(visible([]byte(text))), "\n", `\u000a`)
	if text != "" && strings.ContainsRune("=+-@|%＝＋－＠", []rune(text)[0]) {
		return "'" + text
	}
	return text
}

package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"cube"
)

// Filter says which records are wanted. What is zero is not looked at.
type Filter struct {
	Since   time.Time
	Sandbox string
	Key     string
	Subject string // who asked, or to whom the sandbox belongs
	Team    string // the same
	Action  string // one of Actions, or the part of several before the dot
}

// Check refuses a filter that no record can pass.
func (f Filter) Check() error {
	known := func(a Action) bool { return isAction(a, f.Action) }
	if f.Action != "" && !slices.ContainsFunc(Actions, known) {
		var names []string
		for _, a := range Actions {
			names = append(names, string(a))
		}
		return cube.Errorf(cube.Invalid, "There is no action %.64q: write one of %s, or the part before the dot", f.Action, strings.Join(names, ", "))
	}
	return nil
}

func (f Filter) passes(r *Record) bool {
	isAny := func(want string, have ...string) bool { return want == "" || slices.Contains(have, want) }
	return !r.Time.Before(f.Since) &&
		isAny(f.Sandbox, r.Sandbox) &&
		isAny(f.Key, r.Key) &&
		isAny(f.Subject, r.Subject, r.OwnerSubject) &&
		isAny(f.Team, r.Team, r.OwnerTeam) &&
		(f.Action == "" || isAction(r.Action, f.Action))
}

func isAction(a Action, name string) bool {
	return string(a) == name || strings.HasPrefix(string(a), name+".")
}

// Read calls each for the records of a log that pass the filter, the oldest
// first, with the line that each was read from, until it fails. A server may
// write meanwhile. It returns how many lines could not be read: halves that a
// killed server or a full disk has left.
func Read(ctx context.Context, dir string, f Filter, each func(r *Record, line []byte) error) (unreadable int, err error) {
	if err := f.Check(); err != nil {
		return 0, err
	}
	all, err := openAll(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(all) == 0 {
		return 0, cube.Errorf(cube.NotFound, "There is no audit log in %s: the server writes one with --audit", dir)
	}
	if err != nil {
		return 0, fmt.Errorf("reading the audit log: %w", err)
	}
	defer closeAll(all)
	for i, file := range all {
		n, err := readLines(ctx, file, f, each, i == len(all)-1)
		unreadable += n
		if err != nil {
			return unreadable, err
		}
	}
	return unreadable, nil
}

// readLines reads one file. The end of the last one can be a line that is just
// being written.
func readLines(ctx context.Context, file io.Reader, f Filter, each func(*Record, []byte) error, last bool) (unreadable int, _ error) {
	lines := bufio.NewReaderSize(file, maxBatch)
	for {
		line, err := lines.ReadBytes('\n')
		ends := errors.Is(err, io.EOF)
		if err != nil && !ends {
			return unreadable, fmt.Errorf("reading the audit log: %w", err)
		}
		if ctx.Err() != nil {
			return unreadable, ctx.Err()
		}
		line = bytes.TrimSuffix(line, newline)
		var r Record
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &r) != nil:
			if !ends || !last {
				unreadable++
			}
		case f.passes(&r):
			if err := each(&r, line); err != nil {
				return unreadable, err
			}
		}
		if ends {
			return unreadable, nil
		}
	}
}

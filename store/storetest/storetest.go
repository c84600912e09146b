// Package storetest is the conformance suite of cube.Store: what every store
// must do, whatever it is made of. It knows stores by their interface alone.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) cube.Store { return openAnEmptyOne(t) })
//	}
package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cube"
)

// Run runs the suite. open returns an empty store, which it closes by
// t.Cleanup; it is called once for each test.
func Run(t *testing.T, open func(t *testing.T) cube.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, cube.Store)
	}{
		{"a row comes back as it was written", rowComesBack},
		{"a row that is not there is not found", missingRow},
		{"an id is used once", idOnce},
		{"an update replaces what its promise names, and that alone", updateReplaces},
		{"a sandbox is paused and runs again", pauseAndResume},
		{"a snapshot comes back as it was written", snapshotComesBack},
		{"a snapshot replaces others wholly or not at all", snapshotReplaces},
		{"a snapshot is deleted once", snapshotDeletedOnce},
		{"a list of snapshots has only what is asked for, in pages", listOfSnapshots},
		{"an update of another state changes nothing", updateOfAnotherState},
		{"of many updates from one state one wins", oneUpdateWins},
		{"a key finds its row", keyFindsRow},
		{"a key is held once", keyOnce},
		{"a row that never ran gives its key free", keyFreedByFailure},
		{"a row that ran keeps its key to the end", keyKept},
		{"a list is in order, newest first", listOrder},
		{"a list has only what is asked for", listFilters},
		{"metadata with strange characters is found", strangeMetadata},
		{"pages follow each other without gaps", pages},
		{"a page stays where it is while rows are added", pagesWhileAdding},
		{"rows of long ago are deleted", deleteOld},
		{"the oldest ends above a bound are deleted", deleteAboveBound},
		{"readers and writers do not disturb each other", concurrent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// morning is when the first sandbox of each test starts.
var morning = time.Date(2026, 3, 29, 8, 0, 0, 0, time.UTC)

// row returns a running sandbox that was the n-th to start, one a second.
func row(n int) cube.Sandbox {
	started := morning.Add(time.Duration(n) * time.Second)
	return cube.Sandbox{
		ID:          cube.SandboxID(fmt.Sprintf("i%020d", n)),
		Template:    "base",
		Alias:       "small",
		State:       cube.Running,
		StartedAt:   started,
		EndAt:       started.Add(5 * time.Minute),
		Resources:   cube.Resources{CPUs: 2, MemoryMB: 512, DiskMB: 1024, Pids: 4096},
		Metadata:    map[string]string{"owner": "ada"},
		EnvVars:     map[string]string{"LANG": "C"},
		User:        "ada",
		Workdir:     "/srv",
		AccessToken: "token",
		HostKey:     "key",
		Internet:    true,

		TrafficToken: "traffic",
		Owner:        cube.Owner{Subject: "ada", Team: "red"},
	}
}

// gone returns the n-th sandbox after its end, which came a minute later.
func gone(n int) cube.Sandbox {
	s := row(n)
	s.State = cube.Gone
	s.End = &cube.End{Reason: cube.EndKilled, At: s.StartedAt.Add(time.Minute), By: "request", Detail: "asked for"}
	return s
}

// starting returns the n-th sandbox before it runs.
func starting(n int) cube.Sandbox {
	s := row(n)
	s.State = cube.Starting
	return s
}

func create(t *testing.T, store cube.Store, rows ...cube.Sandbox) {
	t.Helper()
	for _, s := range rows {
		if err := store.CreateSandbox(t.Context(), s, nil); err != nil {
			t.Fatalf("creating the row of %s: %v", s.ID, err)
		}
	}
}

func update(t *testing.T, store cube.Store, from cube.State, s cube.Sandbox) {
	t.Helper()
	if err := store.UpdateSandbox(t.Context(), from, s); err != nil {
		t.Fatalf("updating the row of %s from %s to %s: %v", s.ID, from, s.State, err)
	}
}

func wantRow(t *testing.T, store cube.Store, want cube.Sandbox) {
	t.Helper()
	got, err := store.Sandbox(t.Context(), want.ID)
	if err != nil {
		t.Fatalf("reading the row of %s: %v", want.ID, err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("row of %s (-want +got):\n%s", want.ID, diff)
	}
}

func wantKind(t *testing.T, err error, want cube.Kind) {
	t.Helper()
	if err == nil || cube.KindOf(err) != want {
		t.Errorf("error = %v, want one of kind %v", err, want)
	}
}

// list returns the numbers of the rows that a query finds, "3 2 1", and the total.
func list(t *testing.T, store cube.Store, q cube.SandboxQuery) (string, int) {
	t.Helper()
	rows, total, err := store.ListSandboxes(t.Context(), q)
	if err != nil {
		t.Fatalf("listing %+v: %v", q, err)
	}
	numbers := make([]string, len(rows))
	for i, s := range rows {
		var n int
		if _, err := fmt.Sscanf(string(s.ID), "i%d", &n); err != nil {
			t.Fatalf("the list holds a foreign id %q", s.ID)
		}
		numbers[i] = fmt.Sprint(n)
	}
	return strings.Join(numbers, " "), total
}

func wantList(t *testing.T, store cube.Store, q cube.SandboxQuery, want string, wantTotal int) {
	t.Helper()
	if got, total := list(t, store, q); got != want || total != wantTotal {
		t.Errorf("list of %+v = [%s] of %d, want [%s] of %d", q, got, total, want, wantTotal)
	}
}

package storetest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cube"
)

func pauseAndResume(t *testing.T, store cube.Store) {
	create(t, store, row(1))
	s := row(1)
	for _, step := range []struct {
		state    cube.State
		snapshot cube.SnapshotID
	}{{cube.Pausing, "s1"}, {cube.Paused, "s1"}, {cube.Resuming, "s1"}, {cube.Running, ""}} {
		from := s.State
		s.State, s.Snapshot, s.SnapshotMemory = step.state, step.snapshot, step.snapshot != ""
		update(t, store, from, s)
		wantRow(t, store, s)
	}
	paused := s
	paused.State = cube.Paused
	wantKind(t, store.UpdateSandbox(t.Context(), cube.Pausing, paused), cube.Conflict)
	wantRow(t, store, s)
}

// snapshot returns the n-th that was made, one a second.
func snapshot(n int) cube.Snapshot {
	return cube.Snapshot{
		ID:        cube.SnapshotID(fmt.Sprintf("s%024d", n)),
		Name:      "mine",
		Tag:       cube.DefaultTag,
		Sandbox:   row(1).ID,
		Template:  "base",
		Alias:     "small",
		Resources: cube.Resources{CPUs: 2, MemoryMB: 512, DiskMB: 1024, Pids: 4096},
		CreatedAt: morning.Add(time.Duration(n) * time.Second),
		Owner:     cube.Owner{Subject: "ada", Team: "red"},
		Account:   "team:red",
		Memory:    true,
		Bytes:     1 << 40,
		HostKey:   "key",
		EnvVars:   map[string]string{"X": "1"},
		User:      "ada",
		Workdir:   "/srv",
	}
}

func createSnapshots(t *testing.T, store cube.Store, snapshots ...cube.Snapshot) {
	t.Helper()
	for _, s := range snapshots {
		if err := store.CreateSnapshot(t.Context(), s, nil); err != nil {
			t.Fatalf("creating the row of %s: %v", s.ID, err)
		}
	}
}

func wantSnapshot(t *testing.T, store cube.Store, want cube.Snapshot) {
	t.Helper()
	got, err := store.Snapshot(t.Context(), want.ID)
	if err != nil {
		t.Fatalf("reading the row of %s: %v", want.ID, err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("row of %s (-want +got):\n%s", want.ID, diff)
	}
}

func snapshotComesBack(t *testing.T, store cube.Store) {
	bare := cube.Snapshot{ID: "s2", CreatedAt: morning}
	createSnapshots(t, store, snapshot(1), bare)
	wantSnapshot(t, store, snapshot(1))
	wantSnapshot(t, store, bare)
	_, err := store.Snapshot(t.Context(), "s3")
	wantKind(t, err, cube.NotFound)
}

func snapshotReplaces(t *testing.T, store cube.Store) {
	createSnapshots(t, store, snapshot(1), snapshot(2))
	wantKind(t, store.CreateSnapshot(t.Context(), snapshot(2), []cube.SnapshotID{snapshot(1).ID}), cube.Conflict)
	wantSnapshot(t, store, snapshot(1))
	if err := store.CreateSnapshot(t.Context(), snapshot(3), []cube.SnapshotID{snapshot(1).ID, "unknown"}); err != nil {
		t.Fatal(err)
	}
	wantSnapshots(t, store, cube.SnapshotQuery{}, "3 2")
}

func snapshotDeletedOnce(t *testing.T, store cube.Store) {
	createSnapshots(t, store, snapshot(1), snapshot(2))
	var group sync.WaitGroup
	var deleted atomic.Int32
	for range 8 {
		group.Go(func() {
			switch err := store.DeleteSnapshot(t.Context(), snapshot(1).ID); {
			case err == nil:
				deleted.Add(1)
			case cube.KindOf(err) != cube.NotFound:
				t.Errorf("deleting: %v", err)
			}
		})
	}
	group.Wait()
	if n := deleted.Load(); n != 1 {
		t.Errorf("%d deletions succeeded, want 1", n)
	}
	wantSnapshots(t, store, cube.SnapshotQuery{}, "2")
}

func listOfSnapshots(t *testing.T, store cube.Store) {
	other := snapshot(2)
	other.Sandbox, other.Tag = row(2).ID, "v2"
	foreign := snapshot(3)
	foreign.Owner, foreign.Name = cube.Owner{Subject: "bob", Team: "blue"}, "theirs"
	twin := snapshot(4)
	twin.CreatedAt = foreign.CreatedAt
	createSnapshots(t, store, snapshot(1), other, foreign, twin)
	for want, q := range map[string]cube.SnapshotQuery{
		"4 3 2 1": {},
		"4 3":     {Limit: 2},
		"2 1":     {After: &cube.SnapshotCursor{CreatedAt: foreign.CreatedAt, ID: foreign.ID}},
		"3 2 1":   {After: &cube.SnapshotCursor{CreatedAt: twin.CreatedAt, ID: twin.ID}, Limit: 3},
		"4 2 1":   {Owner: cube.Owner{Team: "red"}},
		"3":       {Owner: cube.Owner{Subject: "bob"}},
		"2":       {Sandbox: row(2).ID},
		"4 1":     {Name: "mine", Tag: cube.DefaultTag},
		"":        {Name: "theirs", Owner: cube.Owner{Team: "red"}},
	} {
		wantSnapshots(t, store, q, want)
	}
}

func wantSnapshots(t *testing.T, store cube.Store, q cube.SnapshotQuery, want string) {
	t.Helper()
	rows, err := store.ListSnapshots(t.Context(), q)
	if err != nil {
		t.Fatalf("listing %+v: %v", q, err)
	}
	numbers := make([]string, len(rows))
	for i, s := range rows {
		numbers[i] = strings.TrimLeft(string(s.ID), "s0")
	}
	if got := strings.Join(numbers, " "); got != want {
		t.Errorf("list of %+v = [%s], want [%s]", q, got, want)
	}
}

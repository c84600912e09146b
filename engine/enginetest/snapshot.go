package enginetest

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"cube"
)

// runSnapshots checks what an engine promises of snapshots whose sandboxes need
// not run any code.
func runSnapshots(t *testing.T, suite Suite) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *machine)
	}{
		{"a checkpoint freezes and a thaw lets it run on", freezeAndThaw},
		{"a frozen sandbox can be stopped, and its snapshot started", stopFrozen},
		{"a sandbox that is not there cannot be checkpointed or thawed", checkpointAbsent},
		{"a snapshot's name cannot be used twice", snapshotNameInUse},
		{"snapshots are listed until they are discarded", snapshotList},
		{"the machine's own snapshot cannot be discarded", discardBase},
		{"many start from one snapshot at once", manyFromOne},
		{"a checkpoint that is given up leaves the sandbox running and nothing behind", checkpointGivenUp},
		{"another server has the snapshots and thaws what is frozen", snapshotAdoption},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t, suite)) })
	}
}

// checkpoint keeps a sandbox as a snapshot that ends with the test.
func (m *machine) checkpoint(t *testing.T, id cube.SandboxID, memory bool) cube.SnapshotID {
	t.Helper()
	snapshot := cube.NewSnapshotID()
	info, err := m.Checkpoint(m.ctx, cube.CheckpointRequest{Sandbox: id, Snapshot: snapshot, Memory: memory})
	if err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
	t.Cleanup(func() { m.discard(t, snapshot) })
	if info.ID != snapshot || info.Memory != memory || info.Bytes <= 0 {
		t.Errorf("the checkpoint is %+v, want one called %s with memory %t and a size", info, snapshot, memory)
	}
	return snapshot
}

func (m *machine) discard(t *testing.T, id cube.SnapshotID) {
	t.Helper()
	if err := m.Discard(context.WithoutCancel(m.ctx), id); err != nil {
		t.Errorf("discarding: %v", err)
	}
}

func (m *machine) thaw(t *testing.T, id cube.SandboxID) {
	t.Helper()
	if err := m.Thaw(m.ctx, id); err != nil {
		t.Fatalf("thawing: %v", err)
	}
}

// from is what starts a sandbox from a snapshot.
func from(snapshot cube.SnapshotID) func(*cube.StartRequest) {
	return func(r *cube.StartRequest) { r.Snapshot = snapshot }
}

// silence is how long a frozen sandbox is listened to. A shorter time could miss
// that it runs, and none can make the test fail without a cause.
const silence = 300 * time.Millisecond

// frozen checks that the agent says nothing.
func (m *machine) frozen(t *testing.T, id cube.SandboxID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(m.ctx, silence)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return m.Dial(ctx, id, cube.AgentPort)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sandbox/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
		t.Error("the agent of a frozen sandbox answers")
	}
}

func freezeAndThaw(t *testing.T, m *machine) {
	id := m.start(t)
	for _, memory := range []bool{true, false} {
		m.checkpoint(t, id, memory)
		m.frozen(t, id)
		m.thaw(t, id)
		m.health(t, id)
		m.thaw(t, id) // does nothing
		m.health(t, id)
	}
}

func stopFrozen(t *testing.T, m *machine) {
	for _, memory := range []bool{true, false} {
		id := m.start(t)
		snapshot := m.checkpoint(t, id, memory)
		m.stop(t, id)
		m.health(t, m.start(t, from(snapshot)))
		// The id is free again, also for the one that goes on.
		m.health(t, m.start(t, from(snapshot), func(r *cube.StartRequest) { r.ID = id }))
	}
}

func checkpointAbsent(t *testing.T, m *machine) {
	_, err := m.Checkpoint(m.ctx, cube.CheckpointRequest{Sandbox: cube.NewSandboxID(), Snapshot: cube.NewSnapshotID(), Memory: true})
	wantKind(t, err, cube.NotFound)
	wantKind(t, m.Thaw(m.ctx, cube.NewSandboxID()), cube.NotFound)
	if list, err := m.Snapshots(m.ctx); err != nil || len(list) != 0 {
		t.Errorf("there are the snapshots %v, %v", list, err)
	}
}

func snapshotNameInUse(t *testing.T, m *machine) {
	id := m.start(t)
	snapshot := m.checkpoint(t, id, true)
	m.thaw(t, id)
	_, err := m.Checkpoint(m.ctx, cube.CheckpointRequest{Sandbox: id, Snapshot: snapshot})
	wantKind(t, err, cube.Conflict)
	m.health(t, id) // it runs
	_, err = m.Checkpoint(m.ctx, cube.CheckpointRequest{Sandbox: id, Snapshot: cube.BaseSnapshot})
	wantKind(t, err, cube.Conflict)
}

func snapshotList(t *testing.T, m *machine) {
	id := m.start(t)
	want := map[cube.SnapshotID]bool{}
	for _, memory := range []bool{true, false} {
		want[m.checkpoint(t, id, memory)] = memory
		m.thaw(t, id)
	}
	list, err := m.Snapshots(m.ctx)
	if err != nil || len(list) != len(want) {
		t.Fatalf("there are the snapshots %v, %v, want %v", list, err, want)
	}
	for _, info := range list {
		if memory, ok := want[info.ID]; !ok || memory != info.Memory || info.Bytes <= 0 {
			t.Errorf("the list has %+v, want %v and sizes", info, want)
		}
		m.discard(t, info.ID)
		m.discard(t, info.ID)
		req := m.request()
		req.Snapshot = info.ID
		_, err := m.Start(m.ctx, req)
		wantKind(t, err, cube.NotFound)
	}
	if list, err := m.Snapshots(m.ctx); err != nil || len(list) != 0 {
		t.Errorf("after discarding there are %v, %v", list, err)
	}
}

func discardBase(t *testing.T, m *machine) {
	wantKind(t, m.Discard(m.ctx, cube.BaseSnapshot), cube.Invalid)
	m.health(t, m.start(t))
}

func manyFromOne(t *testing.T, m *machine) {
	parent := m.start(t)
	snapshot := m.checkpoint(t, parent, true)
	m.thaw(t, parent)
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			req := m.request()
			req.Snapshot = snapshot
			if _, err := m.Start(m.ctx, req); err != nil {
				t.Errorf("starting: %v", err)
				return
			}
			m.health(t, req.ID)
			m.stop(t, req.ID)
		})
	}
	group.Wait()
	m.health(t, parent)
}

// checkpointGivenUp gives up after several times, so that it strikes in several
// stages.
func checkpointGivenUp(t *testing.T, m *machine) {
	id := m.start(t)
	for _, after := range []time.Duration{0, 5 * time.Millisecond, 15 * time.Millisecond, 30 * time.Millisecond, 60 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(m.ctx, after)
		snapshot := cube.NewSnapshotID()
		_, err := m.Checkpoint(ctx, cube.CheckpointRequest{Sandbox: id, Snapshot: snapshot, Memory: true})
		cancel()
		if err == nil {
			m.discard(t, snapshot) // it was faster
			m.thaw(t, id)
		}
		m.health(t, id)
		if list, err := m.Snapshots(m.ctx); err != nil || len(list) != 0 {
			t.Errorf("given up after %v: left %v, %v", after, list, err)
		}
	}
}

func snapshotAdoption(t *testing.T, m *machine) {
	id := m.start(t)
	snapshot := m.checkpoint(t, id, true)
	successor := &machine{Engine: m.suite.Open(t), suite: m.suite, ctx: m.ctx}
	list, err := successor.Snapshots(m.ctx)
	if err != nil || !slices.ContainsFunc(list, func(i cube.SnapshotInfo) bool { return i.ID == snapshot && i.Memory }) {
		t.Errorf("the successor has the snapshots %v, %v, want %s", list, err, snapshot)
	}
	successor.frozen(t, id)
	successor.thaw(t, id)
	successor.health(t, id)
	child := successor.request()
	child.Snapshot = snapshot
	if _, err := successor.Start(m.ctx, child); err != nil {
		t.Fatalf("starting: %v", err)
	}
	successor.health(t, child.ID)
	another := successor.checkpoint(t, child.ID, true)
	successor.stop(t, child.ID)
	child.ID, child.Snapshot = cube.NewSandboxID(), another
	if _, err := successor.Start(m.ctx, child); err != nil {
		t.Fatalf("starting from a snapshot of what a snapshot was: %v", err)
	}
	successor.health(t, child.ID)
	successor.stop(t, child.ID)
	successor.stop(t, id)
}

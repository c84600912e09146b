// Package enginetest is the conformance suite of cube.Engine: every engine's
// own test is a call of Run. It checks the promises on the interface, and after
// each test that nothing of a sandbox is left.
package enginetest

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cube"
)

// Suite is what an engine brings to its test.
type Suite struct {
	// Open returns the engine. Called again it stands for another server on the
	// same machine, after the first has died: whatever the first one ran is
	// still there.
	Open func(t *testing.T) cube.Engine
	// Resources are some that the engine can give several sandboxes at once.
	Resources cube.Resources
	// Leftovers lists what there is of any sandbox outside the engine's own
	// List: processes, mounts, interfaces, control groups, files.
	Leftovers func(t *testing.T) []string
	// Shell runs a script with root's rights in a sandbox and returns what it
	// prints. nil for an engine whose sandboxes run no code.
	Shell func(ctx context.Context, e cube.Engine, id cube.SandboxID, script string) (string, error)
	// SnapshotDir is the directory that holds a snapshot's files. nil for an
	// engine whose snapshots are no files.
	SnapshotDir func(cube.SnapshotID) string
	// FillDisk leaves no room for another snapshot, until the function is called
	// that it returns. nil for an engine without a disk.
	FillDisk func(t *testing.T) (free func())

	origin cube.SnapshotID // what sandboxes start from, "" for the base
}

// timeout bounds each test; on a loaded machine a start takes seconds. The long
// one is for tests that make many.
const (
	timeout     = 2 * time.Minute
	longTimeout = 10 * time.Minute
)

// Run checks an engine.
func Run(t *testing.T, suite Suite) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *machine)
	}{
		{"a started sandbox's agent answers", agentAnswers},
		{"stop removes everything and can be repeated", stopIsIdempotent},
		{"stopping a sandbox that never was is no error", stopUnknown},
		{"an id cannot be used twice", idInUse},
		{"an unknown snapshot is not found", unknownSnapshot},
		{"impossible limits are refused", impossibleLimits},
		{"a start that is given up leaves nothing", cancelledStart},
		{"a closed port is unavailable", closedPort},
		{"a sandbox that is not there cannot be dialed, waited for or measured", absentSandbox},
		{"the network policy of a running sandbox can be replaced", networkPolicy},
		{"the list shows what runs", listShowsRunning},
		{"wait returns when the sandbox is stopped", waitReturns},
		{"wait ends with its context", waitEndsWithContext},
		{"statistics are those of a running sandbox", stats},
		{"twenty start at once", manyAtOnce},
		{"another server finds and stops what runs", adoption},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t, suite)) })
	}
	runSnapshots(t, suite)
	runImages(t, suite)
	if suite.Shell != nil {
		runInside(t, suite)
		runMemory(t, suite)
	}
}

// machine is an engine under test.
type machine struct {
	cube.Engine
	suite Suite
	ctx   context.Context
}

func open(t *testing.T, suite Suite) *machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	m := &machine{Engine: suite.Open(t), suite: suite, ctx: ctx}
	t.Cleanup(func() {
		cancel()
		left, err := m.List(context.Background())
		if err != nil || len(left) > 0 {
			t.Errorf("sandboxes left behind: %v, %v", left, err)
		}
		snapshots, err := m.Snapshots(context.Background())
		if err != nil || len(snapshots) > 0 {
			t.Errorf("snapshots left behind: %v, %v", snapshots, err)
		}
		if left := suite.Leftovers(t); len(left) > 0 {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
	})
	return m
}

// patient gives a test more time from now on.
func (m *machine) patient(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), longTimeout)
	t.Cleanup(cancel)
	m.ctx = ctx
}

func (m *machine) request() cube.StartRequest {
	return cube.StartRequest{ID: cube.NewSandboxID(), Snapshot: cmp.Or(m.suite.origin, cube.BaseSnapshot), Resources: m.suite.Resources, Internet: true}
}

// start starts a sandbox that ends with the test.
func (m *machine) start(t *testing.T, change ...func(*cube.StartRequest)) cube.SandboxID {
	t.Helper()
	req := m.request()
	for _, c := range change {
		c(&req)
	}
	if _, err := m.Start(m.ctx, req); err != nil {
		t.Fatalf("starting: %v", err)
	}
	t.Cleanup(func() { m.stop(t, req.ID) })
	return req.ID
}

func (m *machine) stop(t *testing.T, id cube.SandboxID) {
	t.Helper()
	if err := m.Stop(context.WithoutCancel(m.ctx), id); err != nil {
		t.Errorf("stopping: %v", err)
	}
}

// health asks the agent whether it is well.
func (m *machine) health(t *testing.T, id cube.SandboxID) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return m.Dial(ctx, id, cube.AgentPort)
		},
	}}
	req, err := http.NewRequestWithContext(m.ctx, http.MethodGet, "http://sandbox/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("asking the agent: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Errorf("the agent answers %s, want 204", resp.Status)
	}
}

func wantKind(t *testing.T, err error, want cube.Kind) {
	t.Helper()
	if err == nil || cube.KindOf(err) != want {
		t.Errorf("error %v of kind %q, want %q", err, cube.KindOf(err), want)
	}
}

func agentAnswers(t *testing.T, m *machine) { m.health(t, m.start(t)) }

func stopIsIdempotent(t *testing.T, m *machine) {
	id := m.start(t)
	m.stop(t, id)
	m.stop(t, id)
}

func stopUnknown(t *testing.T, m *machine) { m.stop(t, cube.NewSandboxID()) }

func idInUse(t *testing.T, m *machine) {
	id := m.start(t)
	req := m.request()
	req.ID = id
	_, err := m.Start(m.ctx, req)
	wantKind(t, err, cube.Conflict)
	m.health(t, id) // the first is as it was
}

func unknownSnapshot(t *testing.T, m *machine) {
	req := m.request()
	req.Snapshot = "no-such-snapshot"
	_, err := m.Start(m.ctx, req)
	wantKind(t, err, cube.NotFound)
}

func impossibleLimits(t *testing.T, m *machine) {
	for name, change := range map[string]func(*cube.Resources){
		"no processor":         func(r *cube.Resources) { r.CPUs = 0 },
		"more than there are":  func(r *cube.Resources) { r.CPUs = 1 << 20 },
		"next to no memory":    func(r *cube.Resources) { r.MemoryMB = 1 },
		"no disk":              func(r *cube.Resources) { r.DiskMB = 0 },
		"no process":           func(r *cube.Resources) { r.Pids = 0 },
		"less than no process": func(r *cube.Resources) { r.Pids = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			req := m.request()
			change(&req.Resources)
			_, err := m.Start(m.ctx, req)
			wantKind(t, err, cube.Invalid)
		})
	}
}

// cancelledStart gives up after several times, so that it strikes in several
// stages of a start.
func cancelledStart(t *testing.T, m *machine) {
	for _, after := range []time.Duration{0, 2 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(m.ctx, after)
		req := m.request()
		_, err := m.Start(ctx, req)
		cancel()
		if err == nil {
			m.stop(t, req.ID) // it was faster
			continue
		}
		if list, err := m.List(m.ctx); err != nil || len(list) != 0 {
			t.Errorf("given up after %v: left %v, %v", after, list, err)
		}
	}
}

func closedPort(t *testing.T, m *machine) {
	_, err := m.Dial(m.ctx, m.start(t), 9)
	wantKind(t, err, cube.Unavailable)
}

func absentSandbox(t *testing.T, m *machine) {
	stopped := m.start(t)
	m.stop(t, stopped)
	for name, id := range map[string]cube.SandboxID{"never was": cube.NewSandboxID(), "stopped": stopped} {
		_, err := m.Dial(m.ctx, id, cube.AgentPort)
		wantKind(t, err, cube.NotFound)
		_, err = m.Stats(m.ctx, id)
		wantKind(t, err, cube.NotFound)
		if _, err := m.Wait(m.ctx, id); err != nil {
			t.Errorf("waiting for a sandbox that %s: %v", name, err)
		}
	}
}

func networkPolicy(t *testing.T, m *machine) {
	id := m.start(t)
	for _, policy := range []cube.NetworkPolicy{
		{DenyOut: []string{"0.0.0.0/0"}, AllowOut: []string{"203.0.113.1", "198.51.100.0/24"}}, {DenyOut: []string{"203.0.113.0/24"}}, {},
	} {
		for _, internet := range []bool{true, false} {
			if err := m.SetNetwork(m.ctx, id, internet, policy); err != nil {
				t.Errorf("setting %+v: %v", policy, err)
			}
		}
	}
	m.stop(t, id)
	for _, absent := range []cube.SandboxID{id, cube.NewSandboxID()} {
		wantKind(t, m.SetNetwork(m.ctx, absent, true, cube.NetworkPolicy{}), cube.NotFound)
	}
}

func listShowsRunning(t *testing.T, m *machine) {
	a, b := m.start(t), m.start(t)
	list, err := m.List(m.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []cube.SandboxID{a, b} {
		if !slices.Contains(list, cube.EngineSandbox{ID: id, Running: true}) {
			t.Errorf("%s is not in the list %v as running", id, list)
		}
	}
	if len(list) != 2 {
		t.Errorf("%d sandboxes in the list, want 2", len(list))
	}
}

func waitReturns(t *testing.T, m *machine) {
	id := m.start(t)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if _, err := m.Wait(m.ctx, id); err != nil {
				t.Errorf("waiting: %v", err)
			}
		})
	}
	m.stop(t, id)
	group.Wait()
}

func waitEndsWithContext(t *testing.T, m *machine) {
	id := m.start(t)
	ctx, cancel := context.WithCancel(m.ctx)
	cancel()
	if _, err := m.Wait(ctx, id); err == nil {
		t.Error("waiting with a context that has ended gives no error")
	}
	m.health(t, id)
}

func stats(t *testing.T, m *machine) {
	id := m.start(t)
	s, err := m.Stats(m.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	limit := int64(m.suite.Resources.MemoryMB) << 20
	if s.CPU <= 0 || s.MemoryBytes <= 0 || s.MemoryBytes > limit || s.Processes <= 0 {
		t.Errorf("statistics %+v, want processor time, processes, and memory up to %d", s, limit)
	}
}

func manyAtOnce(t *testing.T, m *machine) {
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			req := m.request()
			if _, err := m.Start(m.ctx, req); err != nil {
				t.Errorf("starting: %v", err)
				return
			}
			m.health(t, req.ID)
			m.stop(t, req.ID)
		})
	}
	group.Wait()
}

func adoption(t *testing.T, m *machine) {
	id := m.start(t)
	successor := &machine{Engine: m.suite.Open(t), suite: m.suite, ctx: m.ctx}
	successor.health(t, id)
	if list, err := successor.List(m.ctx); err != nil || !slices.Contains(list, cube.EngineSandbox{ID: id, Running: true}) {
		t.Errorf("the successor lists %v, %v", list, err)
	}
	if _, err := successor.Stats(m.ctx, id); err != nil {
		t.Errorf("statistics: %v", err)
	}
	another := successor.request()
	if _, err := successor.Start(m.ctx, another); err != nil {
		t.Errorf("starting beside an adopted sandbox: %v", err)
	}
	successor.stop(t, another.ID)
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := successor.Wait(m.ctx, id); err != nil {
			t.Errorf("waiting for an adopted sandbox: %v", err)
		}
	})
	successor.stop(t, id)
	group.Wait()
}

package gvisor

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cube"
	"cube/internal/testhost"
)

func openLimited(t *testing.T, dir string, limits LinkLimits) *Engine {
	t.Helper()
	e, err := New(Config{DataDir: dir, Network: netip.MustParsePrefix("10.213.0.0/16"), Limits: limits, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// took is how long a script takes in a sandbox, which must end well.
func took(t *testing.T, e *Engine, id cube.SandboxID, script string) time.Duration {
	t.Helper()
	start := time.Now()
	if out, err := shell(t.Context(), e, id, script); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return time.Since(start)
}

// What a sandbox sends and receives keeps to its bandwidth, with the server that
// started it and with the next; and to no bound once there is none.
func TestBandwidth(t *testing.T) {
	const (
		megabits, megabytes = 40, 8
		least               = 1200 * time.Millisecond // of 1.6 s; what may come at once left out
	)
	download := fmt.Sprintf("curl -sS --max-time 60 -o /dev/null http://%s/zeros?bytes=%d", testhost.InternetAddr, megabytes*1_000_000)
	upload := fmt.Sprintf("head -c %d /dev/zero | curl -sS --max-time 60 -o /dev/null -T - http://%s/swallow", megabytes*1_000_000, testhost.InternetAddr)
	dir := dataDir(t)
	e := openLimited(t, dir, LinkLimits{Bandwidth: megabits})
	id := started(t, e)
	for _, server := range []*Engine{e, openLimited(t, dir, LinkLimits{Bandwidth: megabits})} {
		for what, script := range map[string]string{"download": download, "upload": upload} {
			d := took(t, server, id, script)
			t.Logf("%s: %s", what, d)
			if d < least {
				t.Errorf("the %s of %d MB took %s: at %d Mbit/s it takes %s at least", what, megabytes, d, megabits, least)
			}
		}
	}
	free := openLimited(t, dir, LinkLimits{})
	host, err := shell(t.Context(), free, id, download+" && "+upload)
	if err != nil {
		t.Errorf("without a limit: %v: %s", err, host)
	}
}

// opener opens so many connections and says how many there are, and how many were
// refused. If it is told to, it holds them for as long as /tmp/hold is there.
const opener = `cat >/tmp/opener.py <<'END'
import os, socket, sys, time
held, refused = [], 0
for i in range(int(sys.argv[1])):
    s = socket.socket()
    s.settimeout(60)
    try:
        s.connect((sys.argv[2], 80))
        held.append(s)
    except ConnectionError:
        refused += 1
print(len(held), refused, flush=True)
while len(sys.argv) > 3 and os.path.exists("/tmp/hold"):
    time.sleep(0.1)
END
`

// connections runs the opener.
func connections(t *testing.T, e *Engine, id cube.SandboxID, n int) string {
	t.Helper()
	host, _, _ := strings.Cut(testhost.InternetAddr, ":")
	out, err := shell(t.Context(), e, id, opener+fmt.Sprintf("python3 /tmp/opener.py %d %s", n, host))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(out)
}

// holding has the opener run on in the background.
func holding(t *testing.T, e *Engine, id cube.SandboxID, n int) string {
	t.Helper()
	host, _, _ := strings.Cut(testhost.InternetAddr, ":")
	out, err := shell(t.Context(), e, id, opener+fmt.Sprintf(`touch /tmp/hold
(setsid python3 /tmp/opener.py %d %s hold >/tmp/opened 2>&1 &)
while [ ! -s /tmp/opened ]; do sleep 0.1; done; cat /tmp/opened`, n, host))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(out)
}

// Connections beyond a sandbox's bound are refused at once, also with the next
// server and in a fork; its neighbours have theirs, and so has it once the old
// ones are closed.
func TestConnectionsAreBounded(t *testing.T) {
	dir := dataDir(t)
	limits := LinkLimits{Connections: 20}
	e := openLimited(t, dir, limits)
	id, neighbour := started(t, e), started(t, e)
	if got := holding(t, e, id, 15); got != "15 0" {
		t.Errorf("of 15 connections there are, and were refused, %s", got)
	}
	next := openLimited(t, dir, limits)
	if got := connections(t, next, id, 15); got != "5 10" {
		t.Errorf("of 15 more there are, and were refused, %s", got)
	}
	if got := connections(t, next, neighbour, 20); got != "20 0" {
		t.Errorf("of a neighbour's 20 connections there are, and were refused, %s", got)
	}
	snapshot := cube.NewSnapshotID()
	if _, err := next.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: snapshot, Memory: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = next.Discard(context.Background(), snapshot) })
	if err := next.Thaw(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	fork := started(t, next, func(r *cube.StartRequest) { r.Snapshot = snapshot })
	if got := connections(t, next, fork, 25); got != "20 5" {
		t.Errorf("of a fork's 25 connections there are, and were refused, %s", got)
	}
	if out, err := shell(t.Context(), next, id, "rm /tmp/hold"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, func() bool { return connections(t, next, id, 15) == "15 0" })
}

// One that opens and opens is slowed down by refusals; a neighbour is not.
func TestTheRateOfConnectionsIsBounded(t *testing.T) {
	e := openLimited(t, dataDir(t), LinkLimits{ConnectionRate: 1})
	id, neighbour := started(t, e), started(t, e)
	var there, refused int
	if _, err := fmt.Sscan(connections(t, e, id, 300), &there, &refused); err != nil || there < 2 || refused == 0 {
		t.Errorf("of 300 connections there are %d, and %d were refused (%v)", there, refused, err)
	}
	if got := connections(t, e, neighbour, 1); got != "1 0" {
		t.Errorf("of a neighbour's connection there is, and was refused, %s", got)
	}
}

func eventually(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !true(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it has not come true in a minute")
		}
	}
}

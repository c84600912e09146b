package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// arena is a server with a sandbox that minds its own business, beside those that
// attack: whatever they do, it and the server must go on.
type arena struct {
	*server
	neighbour sandbox
	rest      int64 // the server's memory before any attack, bytes
}

const (
	// maxGrowth is how much memory of the server one attack may take, in bytes.
	// The attacks would take gigabytes if something was not bounded.
	maxGrowth = 192 << 20
	// maxAgent is how much the agent may hold, in KiB.
	maxAgent = 160 << 10
	// answerWithin is for a machine that does much else.
	answerWithin = 2 * time.Minute
)

func openArena(t *testing.T) *arena {
	t.Helper()
	a := &arena{server: start(t, "--sandbox-cpus", "1", "--sandbox-memory", "256", "--sandbox-disk", "96", "--sandbox-pids", "200")}
	a.neighbour = a.create()
	a.shell(a.neighbour, "user", "true")
	a.rest = a.memory("VmRSS")
	return a
}

// memory reads a figure of the server's process, in bytes.
func (a *arena) memory(figure string) int64 {
	a.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		a.t.Fatalf("the server is gone: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, figure+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				a.t.Fatal(err)
			}
			return n << 10
		}
	}
	a.t.Fatalf("no %s in %s", figure, status)
	return 0
}

// attack runs an attack from a sandbox of its own, and then looks whether the
// server and the neighbour are well and whether the attacker can be ended.
func (a *arena) attack(t *testing.T, name string, attack func(t *testing.T, c sandbox)) {
	t.Run(name, func(t *testing.T) {
		outer := a.t
		a.t = t
		defer func() { a.t = outer }()
		c := a.create()
		// The peak begins anew: proc_pid_clear_refs(5).
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", a.cmd.Process.Pid), []byte("5"), 0); err != nil {
			t.Fatal(err)
		}
		attack(t, c)
		a.wantNeighbour(t)
		if peak := a.memory("VmHWM"); peak > a.rest+maxGrowth {
			t.Errorf("the server took %d MiB, from %d MiB at rest", peak>>20, a.rest>>20)
		}
		if status := a.kill(c.SandboxID); status != http.StatusNoContent && status != http.StatusNotFound {
			t.Errorf("ending the attacker is answered with %d", status)
		}
	})
}

func (a *arena) wantNeighbour(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	if out, code, err := a.tryShell(ctx, a.neighbour, "user", "echo alive"); err != nil || code != 0 || out != "alive\n" {
		t.Errorf("the neighbour answers %q, %d, %v", out, code, err)
	}
}

// wantAgent looks at the memory of a sandbox's agent.
func (a *arena) wantAgent(t *testing.T, c sandbox) {
	t.Helper()
	out, _ := a.shell(c, "root", "awk '/VmRSS/ {print $2}' /proc/1/status")
	if n, err := strconv.Atoi(strings.TrimSpace(out)); err != nil || n > maxAgent {
		t.Errorf("the agent holds %q KiB, %v", out, err)
	}
}

func TestHostile(t *testing.T) {
	a := openArena(t)
	for name, leave := range map[string]bool{"a process that prints without end for nobody": true, "a process that prints without end for a client that stopped reading": false} {
		a.attack(t, name, func(t *testing.T, c sandbox) {
			const script = `exec python3 -c "
import os
counter = os.open('/tmp/n', os.O_CREAT | os.O_WRONLY)
while True:
    for _ in range(16): os.write(1, bytes(65536))
    os.write(counter, b'.')"`
			stream, err := a.startShell(t.Context(), c, "user", script)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			if _, err := stream.next(); err != nil {
				t.Fatal(err)
			}
			if leave {
				stream.Close()
			}
			// Until it has printed far more than anybody may hold, or waits.
			for last, same := -1, 0; same < 20 && last < 400; {
				out, _ := a.shell(c, "user", "stat -c %s /tmp/n || echo 0")
				n, err := strconv.Atoi(strings.TrimSpace(out))
				if err == nil && n == last {
					same++
				} else {
					last, same = n, 0
				}
			}
			a.wantAgent(t, c)
		})
	}
	a.attack(t, "clients that stop reading downloads", func(t *testing.T, c sandbox) {
		a.shell(c, "user", "truncate -s 4G /tmp/big")
		for range 50 {
			conn := dial(t, a.server)
			fmt.Fprintf(conn, "GET /files?path=/tmp/big HTTP/1.1\r\nHost: 49983-%s.localhost\r\nX-Access-Token: %s\r\n\r\n", c.SandboxID, c.EnvdAccessToken)
			if _, err := conn.Read(make([]byte, 1024)); err != nil {
				t.Fatal(err)
			}
		}
		a.wantAgent(t, c)
	})
	a.attack(t, "clients that stop sending uploads", func(t *testing.T, c sandbox) {
		for n := range 50 {
			conn := dial(t, a.server)
			fmt.Fprintf(conn, "POST /files?path=/tmp/%d HTTP/1.1\r\nHost: 49983-%s.localhost\r\nX-Access-Token: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000000\r\n\r\nabc", n, c.SandboxID, c.EnvdAccessToken)
		}
		a.wantAgent(t, c)
	})
	a.attack(t, "500 connections that never finish their request", func(t *testing.T, _ sandbox) {
		for range 500 {
			if _, err := io.WriteString(dial(t, a.server), "GET / HTTP/1.1\r\nHost: localhost\r\nX-"); err != nil {
				t.Fatal(err)
			}
		}
	})
	a.attack(t, "a fork bomb", func(t *testing.T, c sandbox) {
		const many = "sh -c 'i=0; while [ $i -lt 5000 ]; do sleep 1000 </dev/null >/dev/null 2>&1 & i=$((i+1)); done; echo all'"
		if out, code, err := a.tryShell(t.Context(), c, "user", many); err != nil || code == 0 || !strings.Contains(out, "ork") || strings.Contains(out, "all") {
			t.Errorf("it is not stopped: %q, %d, %v", out, code, err)
		}
		stream, err := a.startShell(t.Context(), c, "user", "b() { b | b & }; b; sleep 1000")
		if err == nil {
			defer stream.Close()
			_, _ = stream.next()
		}
	})
	a.attack(t, "a full memory", func(t *testing.T, c sandbox) {
		_, _, _ = a.tryShell(t.Context(), c, "user", "tail /dev/zero")
	})
	a.attack(t, "a first process that stands still", func(t *testing.T, c sandbox) {
		stream, err := a.startShell(t.Context(), c, "root", "kill -STOP 1; sleep 1000")
		if err == nil {
			defer stream.Close()
			_, _ = stream.next()
		}
		if status, body := a.call("GET", "/sandboxes/"+c.SandboxID, nil); status != http.StatusOK {
			t.Errorf("asked for the sandbox: %d %s", status, body)
		}
	})
	a.attack(t, "10,000 watchers", func(t *testing.T, c sandbox) {
		var all sync.WaitGroup
		work := make(chan struct{})
		var mu sync.Mutex
		answers := map[int]int{}
		for range 8 {
			all.Go(func() {
				for range work {
					status, _, err := a.rpc(c, "filesystem.Filesystem/CreateWatcher", map[string]any{"path": "/tmp", "recursive": true})
					mu.Lock()
					if err != nil {
						status = 0
					}
					answers[status]++
					mu.Unlock()
				}
			})
		}
		for range 10_000 {
			mu.Lock()
			refused := answers[http.StatusTooManyRequests] > 1000 // so will the rest be
			mu.Unlock()
			if refused {
				break
			}
			work <- struct{}{}
		}
		close(work)
		all.Wait()
		t.Logf("answers: %v", answers)
		a.wantAgent(t, c)
	})
}

// rpc calls an RPC of a sandbox's agent.
func (a *arena) rpc(c sandbox, path string, body any) (int, []byte, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	return a.try("POST", "/"+path, json.RawMessage(data), "Content-Type", "application/json", "Connect-Protocol-Version", "1",
		"E2b-Sandbox-Id", c.SandboxID, "E2b-Sandbox-Port", "49983", "X-Access-Token", c.EnvdAccessToken)
}

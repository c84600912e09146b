package enginetest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"cube"
)

// runMemory checks what is in a snapshot: what code that runs in it sees.
func runMemory(t *testing.T, suite Suite) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *machine)
	}{
		{"processes, servers, files and settings go on from a snapshot with memory", memoryIsKept},
		{"a snapshot without memory boots anew over its files", filesAreKept},
		{"a hundred times paused and resumed, nothing is lost", manyCycles},
		{"children of one snapshot have its memory, and a life of their own", children},
		{"connections from before are dead in what goes on", oldConnections},
		{"other resources than a snapshot was kept with are refused", otherResources},
		{"a damaged snapshot is refused and leaves nothing", damagedSnapshot},
		{"a full disk fails the checkpoint and the sandbox runs on", fullDisk},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t, suite)) })
	}
}

// counter is a process that counts in its memory and shows what it has come to
// in a file, with its own id before it.
const counter = `cat > /tmp/counter.py <<'END'
import os, time
n = 0
while True:
    n += 1
    with open("/tmp/count.new", "w") as f:
        f.write("%d %d" % (os.getpid(), n))
    os.rename("/tmp/count.new", "/tmp/count")
    time.sleep(0.005)
END
setsid python3 /tmp/counter.py >/dev/null 2>&1 &
while [ ! -e /tmp/count ]; do sleep 0.02; done
cat /tmp/count`

// counted waits until the counter has gone on and prints how far it is.
const counted = `a=$(cat /tmp/count); while [ "$a" = "$(cat /tmp/count)" ]; do sleep 0.01; done; cat /tmp/count`

// count reads what counter and counted print.
func count(t *testing.T, out string) (pid, n int) {
	t.Helper()
	if _, err := fmt.Sscanf(out, "%d %d", &pid, &n); err != nil {
		t.Fatalf("the counter says %q: %v", out, err)
	}
	return pid, n
}

// lifelike puts into a sandbox what should be there later: a server, files of
// all sorts, and some that are gone.
const lifelike = `set -e
export MARK=kept
setsid python3 -m http.server --bind 127.0.0.1 8123 >/dev/null 2>&1 &
for i in $(seq 500); do curl -s -o /dev/null http://127.0.0.1:8123/ && break; sleep 0.05; done
mkdir -p /home/user/d/e && echo new > /home/user/d/e/f && chown -R user:user /home/user/d && chmod 640 /home/user/d/e/f
ln -s d/e/f /home/user/link && ln /home/user/d/e/f /home/user/hard
head -c 3000000 /dev/urandom > /home/user/random && sha256sum < /home/user/random > /home/user/sum
rm /etc/hostname && echo changed >> /etc/hosts && echo shared > /usr/local/mark`

// lifelikeFiles says how the files of lifelike are.
const lifelikeFiles = `cat /home/user/link; stat -c '%U %a %h' /home/user/d/e/f; readlink /home/user/link
sha256sum < /home/user/random | cmp - /home/user/sum && echo same
ls /etc/hostname 2>/dev/null; tail -1 /etc/hosts; cat /usr/local/mark`

const lifelikeWant = "new\nuser 640 2\nd/e/f\nsame\nchanged\nshared"

const bootID = "cat /proc/sys/kernel/random/boot_id"

func memoryIsKept(t *testing.T, m *machine) {
	id := m.start(t)
	m.shell(t, id, lifelike)
	pid, n := count(t, m.shell(t, id, counter))
	boot := m.shell(t, id, bootID)
	environment := m.shell(t, id, "tr '\\0' '\\n' < /proc/"+strconv.Itoa(pid)+"/environ | sort")
	snapshot := m.checkpoint(t, id, true)
	m.stop(t, id)
	id = m.start(t, from(snapshot))
	newPID, later := count(t, m.shell(t, id, counted))
	if newPID != pid || later <= n {
		t.Errorf("the counter goes on as process %d at %d; it was %d at %d", newPID, later, pid, n)
	}
	if got := m.shell(t, id, bootID); got != boot {
		t.Errorf("the boot id was %s and is %s", boot, got)
	}
	if got := m.shell(t, id, "tr '\\0' '\\n' < /proc/"+strconv.Itoa(pid)+"/environ | sort"); got != environment {
		t.Errorf("the counter's environment was %q and is %q", environment, got)
	}
	if got := m.shell(t, id, "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8123/"); got != "200" {
		t.Errorf("the server inside answers %s", got)
	}
	conn, err := m.Dial(m.ctx, id, 8123)
	if err != nil {
		t.Fatalf("the server inside cannot be dialed: %v", err)
	}
	conn.Close()
	if got := m.shell(t, id, lifelikeFiles); got != lifelikeWant {
		t.Errorf("the files are %q, want %q", got, lifelikeWant)
	}
	if got := m.shell(t, id, "hostname"); got != string(id) {
		t.Errorf("the host name is %s, want %s", got, id)
	}
}

func filesAreKept(t *testing.T, m *machine) {
	id := m.start(t)
	m.shell(t, id, lifelike)
	boot := m.shell(t, id, bootID)
	// Twice, since users of others lost files the second time.
	for range 2 {
		m.shell(t, id, "echo once more >> /home/user/log; (sleep 1000 & disown) >/dev/null 2>&1")
		snapshot := m.checkpoint(t, id, false)
		m.stop(t, id)
		id = m.start(t, from(snapshot))
		if got := m.shell(t, id, lifelikeFiles); got != lifelikeWant {
			t.Errorf("the files are %q, want %q", got, lifelikeWant)
		}
		now := m.shell(t, id, bootID)
		if now == boot {
			t.Errorf("the boot id is %s still", now)
		}
		boot = now
		if got := m.shell(t, id, "pgrep -x sleep || echo none"); got != "none" {
			t.Errorf("processes go on: %s", got)
		}
	}
	if got := m.shell(t, id, "grep -c . /home/user/log"); got != "2" {
		t.Errorf("%s lines in the log, want 2", got)
	}
	// And with memory, from files.
	_, n := count(t, m.shell(t, id, counter))
	snapshot := m.checkpoint(t, id, true)
	m.stop(t, id)
	id = m.start(t, from(snapshot))
	if _, later := count(t, m.shell(t, id, counted)); later <= n {
		t.Errorf("the counter was at %d and is at %d", n, later)
	}
	if got := m.shell(t, id, lifelikeFiles); got != lifelikeWant {
		t.Errorf("the files are %q, want %q", got, lifelikeWant)
	}
}

// manyCycles takes 20 s where nothing else runs.
func manyCycles(t *testing.T, m *machine) {
	cycles := 100
	if testing.Short() {
		cycles = 5
	}
	m.patient(t)
	req := m.request()
	if _, err := m.Start(m.ctx, req); err != nil {
		t.Fatal(err)
	}
	defer func() { m.stop(t, req.ID) }()
	pid, last := count(t, m.shell(t, req.ID, counter))
	for i := range cycles {
		snapshot := cube.NewSnapshotID()
		if _, err := m.Checkpoint(m.ctx, cube.CheckpointRequest{Sandbox: req.ID, Snapshot: snapshot, Memory: true}); err != nil {
			t.Fatalf("pausing for the %dth time: %v", i+1, err)
		}
		m.stop(t, req.ID)
		req.Snapshot = snapshot
		if _, err := m.Start(m.ctx, req); err != nil {
			t.Fatalf("resuming for the %dth time: %v", i+1, err)
		}
		m.discard(t, snapshot)
		out := m.shell(t, req.ID, fmt.Sprintf("echo %d >> /home/user/log; %s", i, counted))
		now, n := count(t, out)
		if now != pid || n <= last {
			t.Fatalf("after the %dth resume the counter is process %d at %d; it was %d at %d", i+1, now, n, pid, last)
		}
		last = n
	}
	want := fmt.Sprintf("%d %d", cycles, cycles*(cycles-1)/2)
	if got := m.shell(t, req.ID, "awk '{ s += $1 } END { print NR, s }' /home/user/log"); got != want {
		t.Errorf("the file's lines and their sum are %s, want %s", got, want)
	}
}

func children(t *testing.T, m *machine) {
	parent := m.start(t)
	pid, n := count(t, m.shell(t, parent, counter))
	snapshot := m.checkpoint(t, parent, true)
	m.thaw(t, parent)
	var group sync.WaitGroup
	for i := range 5 {
		group.Go(func() {
			req := m.request()
			req.Snapshot = snapshot
			if _, err := m.Start(m.ctx, req); err != nil {
				t.Errorf("starting a child: %v", err)
				return
			}
			defer m.stop(t, req.ID)
			out, err := m.suite.Shell(m.ctx, m, req.ID, fmt.Sprintf("echo child%d > /home/user/who; sync; %s; echo; cat /home/user/who; hostname", i, counted))
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if err != nil || len(lines) != 3 {
				t.Errorf("child %d says %q, %v", i, out, err)
				return
			}
			var childPID, later int
			if _, err := fmt.Sscanf(lines[0], "%d %d", &childPID, &later); err != nil || childPID != pid || later <= n {
				t.Errorf("child %d counts %q; the parent was %d at %d", i, lines[0], pid, n)
			}
			if lines[1] != fmt.Sprintf("child%d", i) || lines[2] != string(req.ID) {
				t.Errorf("child %d says it is %q on %q", i, lines[1], lines[2])
			}
		})
	}
	group.Wait()
	if now, later := count(t, m.shell(t, parent, counted)); now != pid || later <= n {
		t.Errorf("the parent counts as %d at %d; it was %d at %d", now, later, pid, n)
	}
	if got := m.shell(t, parent, "ls /home/user/who 2>/dev/null || echo none"); got != "none" {
		t.Errorf("the parent has a child's file: %s", got)
	}
}

// oldConnections has one connection open from outside, to a server that says in
// a file when it ends.
func oldConnections(t *testing.T, m *machine) {
	id := m.start(t)
	m.shell(t, id, `cat > /tmp/server.py <<'END'
import socket
s = socket.create_server(("127.0.0.1", 8124))
open("/tmp/state", "w").write("listening")
c, _ = s.accept()
c.send(b"hello")
open("/tmp/state", "w").write("connected")
try:
    c.recv(1)
except OSError:
    pass
open("/tmp/state", "w").write("ended")
END
setsid python3 /tmp/server.py >/dev/null 2>&1 &
while [ "$(cat /tmp/state 2>/dev/null)" != listening ]; do sleep 0.02; done`)
	conn, err := m.Dial(m.ctx, id, 8124)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	m.shell(t, id, `while [ "$(cat /tmp/state)" != connected ]; do sleep 0.02; done`)
	snapshot := m.checkpoint(t, id, true)
	m.stop(t, id)
	// Outside: the test's own timeout ends a read that would hang.
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes come out of a sandbox that was stopped", n)
	}
	id = m.start(t, from(snapshot))
	m.shell(t, id, `for i in $(seq 1500); do [ "$(cat /tmp/state)" = ended ] && exit 0; sleep 0.02; done; cat /tmp/state; exit 1`)
}

func otherResources(t *testing.T, m *machine) {
	id := m.start(t)
	snapshot := m.checkpoint(t, id, true)
	m.stop(t, id)
	for name, change := range map[string]func(*cube.Resources){
		"processors":  func(r *cube.Resources) { r.CPUs-- },
		"less memory": func(r *cube.Resources) { r.MemoryMB /= 2 },
		"disk":        func(r *cube.Resources) { r.DiskMB *= 2 },
		"processes":   func(r *cube.Resources) { r.Pids *= 2 },
	} {
		t.Run(name, func(t *testing.T) {
			req := m.request()
			req.Snapshot = snapshot
			change(&req.Resources)
			_, err := m.Start(m.ctx, req)
			wantKind(t, err, cube.Invalid)
		})
	}
	m.health(t, m.start(t, from(snapshot), func(r *cube.StartRequest) { r.Resources.MemoryMB *= 2 }))
}

func damagedSnapshot(t *testing.T, m *machine) {
	if m.suite.SnapshotDir == nil {
		t.Skip("its snapshots are no files")
	}
	id := m.start(t)
	var snapshots []cube.SnapshotID
	for _, memory := range []bool{true, false} {
		snapshots = append(snapshots, m.checkpoint(t, id, memory))
	}
	m.stop(t, id)
	for _, snapshot := range snapshots {
		files, err := filepath.Glob(filepath.Join(m.suite.SnapshotDir(snapshot), "*"))
		if err != nil || len(files) < 2 {
			t.Fatalf("the snapshot's files are %v, %v", files, err)
		}
		for _, file := range files {
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			flipped := append([]byte(nil), whole...)
			if len(flipped) > 0 {
				flipped[len(flipped)/2] ^= 1
			}
			for name, content := range map[string][]byte{"truncated": whole[:len(whole)/2], "empty": {}, "flipped": flipped} {
				if bytes.Equal(content, whole) {
					continue
				}
				t.Run(filepath.Base(file)+" "+name, func(t *testing.T) {
					if err := os.WriteFile(file, content, 0o600); err != nil {
						t.Fatal(err)
					}
					req := m.request()
					req.Snapshot = snapshot
					_, err := m.Start(m.ctx, req)
					wantKind(t, err, cube.Internal)
					if list, err := m.List(m.ctx); err != nil || len(list) > 0 {
						t.Errorf("left behind: %v, %v", list, err)
					}
				})
			}
			if err := os.WriteFile(file, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		// Whole again, it is as good as before.
		again := m.start(t, from(snapshot))
		m.health(t, again)
		m.stop(t, again)
	}
}

func fullDisk(t *testing.T, m *machine) {
	if m.suite.FillDisk == nil {
		t.Skip("its disk cannot be filled")
	}
	id := m.start(t)
	pid, n := count(t, m.shell(t, id, counter))
	for _, memory := range []bool{true, false} {
		t.Run(fmt.Sprintf("memory %t", memory), func(t *testing.T) {
			m.shell(t, id, "head -c 1000000 /dev/urandom > /home/user/random")
			free := m.suite.FillDisk(t)
			_, err := m.Checkpoint(m.ctx, cube.CheckpointRequest{Sandbox: id, Snapshot: cube.NewSnapshotID(), Memory: memory})
			free()
			wantKind(t, err, cube.Exhausted)
			if list, err := m.Snapshots(m.ctx); err != nil || len(list) != 0 {
				t.Errorf("left behind: %v, %v", list, err)
			}
			now, later := count(t, m.shell(t, id, counted))
			if now != pid || later <= n {
				t.Errorf("the counter is %d at %d; it was %d at %d", now, later, pid, n)
			}
			n = later
			snapshot := m.checkpoint(t, id, memory)
			m.thaw(t, id)
			m.health(t, m.start(t, from(snapshot)))
		})
	}
}

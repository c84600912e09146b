package enginetest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"cube"
)

// runInside checks what code in a sandbox sees and cannot do.
func runInside(t *testing.T, suite Suite) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *machine)
	}{
		{"code sees the processors and the memory that it has", truthfulLimits},
		{"each sandbox has a boot id and a host name of its own", ownIdentity},
		{"what one writes another does not see", separateFiles},
		{"the disk ends at its limit", diskLimit},
		{"processes end at their limit and the sandbox goes on", pidsLimit},
		{"a sandbox over its memory ends, as out of memory", outOfMemory},
		{"a port that is bound to 127.0.0.1 can be dialed", loopbackPort},
		{"a sandbox whose agent dies has ended", agentDies},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t, suite)) })
	}
}

// shell runs a script that must end well, and returns its output.
func (m *machine) shell(t *testing.T, id cube.SandboxID, script string) string {
	t.Helper()
	out, err := m.suite.Shell(m.ctx, m, id, script)
	if err != nil {
		t.Fatalf("running %q: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(out)
}

func truthfulLimits(t *testing.T, m *machine) {
	id := m.start(t, func(r *cube.StartRequest) { r.Resources.CPUs, r.Resources.MemoryMB = 1, 300 })
	if got := m.shell(t, id, "nproc"); got != "1" {
		t.Errorf("nproc says %s, want 1", got)
	}
	want := fmt.Sprintf("MemTotal: %d kB", 300<<10)
	if got := m.shell(t, id, "head -1 /proc/meminfo | tr -s ' '"); got != want {
		t.Errorf("/proc/meminfo says %q, want %q", got, want)
	}
}

func ownIdentity(t *testing.T, m *machine) {
	a, b := m.start(t), m.start(t)
	const script = "cat /proc/sys/kernel/random/boot_id; hostname"
	one, two := strings.Fields(m.shell(t, a, script)), strings.Fields(m.shell(t, b, script))
	if len(one) != 2 || len(two) != 2 || one[0] == two[0] || one[1] == two[1] {
		t.Errorf("boot ids and host names %q and %q, want different ones", one, two)
	}
	if again := strings.Fields(m.shell(t, a, script)); again[0] != one[0] {
		t.Errorf("the boot id changed from %s to %s", one[0], again[0])
	}
}

func separateFiles(t *testing.T, m *machine) {
	a := m.start(t)
	m.shell(t, a, "for f in /etc/mark /usr/mark /tmp/mark /home/user/mark; do echo x > $f; done; rm /etc/passwd")
	b := m.start(t)
	if got := m.shell(t, b, "ls /etc/mark /usr/mark /tmp/mark /home/user/mark 2>/dev/null; wc -l < /etc/passwd"); got == "0" || strings.Contains(got, "mark") {
		t.Errorf("another sandbox's files shine through: %s", got)
	}
}

func diskLimit(t *testing.T, m *machine) {
	id := m.start(t, func(r *cube.StartRequest) { r.Resources.DiskMB = 64 })
	got := m.shell(t, id, "dd if=/dev/zero of=/tmp/big bs=1M count=100 2>/dev/null; stat -c %s /tmp/big; rm /tmp/big; echo ok > /tmp/small && cat /tmp/small")
	size, _, _ := strings.Cut(got, "\n")
	if n, err := strconv.Atoi(size); err != nil || n > 64<<20 || n < 32<<20 {
		t.Errorf("%s bytes went onto a disk of 64 MiB", size)
	}
	if !strings.HasSuffix(got, "\nok") {
		t.Errorf("the disk is of no use after it was full: %q", got)
	}
}

func pidsLimit(t *testing.T, m *machine) {
	id := m.start(t, func(r *cube.StartRequest) { r.Resources.Pids = 64 })
	got := m.shell(t, id, `python3 -c '
import os, signal
children = []
for _ in range(200):
    try:
        child = os.fork()
    except BlockingIOError:
        continue
    if child == 0:
        signal.pause()
    children.append(child)
for child in children:
    os.kill(child, signal.SIGKILL)
print(len(children))
'`)
	if n, err := strconv.Atoi(got); err != nil || n >= 64 || n < 20 {
		t.Errorf("%s of 200 processes started with a limit of 64", got)
	}
	m.shell(t, id, "true")
	m.health(t, id)
}

func outOfMemory(t *testing.T, m *machine) {
	id := m.start(t, func(r *cube.StartRequest) { r.Resources.MemoryMB = 128 })
	// At once: what grows slowly towards the limit takes the sandbox's kernel its
	// own pages first, and a minute where the machine is busy.
	_, err := m.suite.Shell(m.ctx, m, id, "python3 -c 'b\"x\" * (1 << 30)'")
	exit, waitErr := m.Wait(m.ctx, id)
	if waitErr != nil {
		t.Fatal(waitErr)
	}
	if !exit.OutOfMemory {
		t.Errorf("exit %+v (the command's error: %v), want out of memory", exit, err)
	}
}

func loopbackPort(t *testing.T, m *machine) {
	id := m.start(t)
	m.shell(t, id, `setsid python3 -m http.server --bind 127.0.0.1 8123 >/dev/null 2>&1 &
for i in $(seq 200); do curl -s -o /dev/null http://127.0.0.1:8123/ && exit 0; sleep 0.05; done; exit 1`)
	conn, err := m.Dial(m.ctx, id, 8123)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 12)
	if _, err := conn.Read(answer); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200") {
		t.Errorf("the server inside answers %q, %v", answer, err)
	}
}

func agentDies(t *testing.T, m *machine) {
	id := m.start(t)
	// A signal that the first process handles; others it never gets.
	_, _ = m.suite.Shell(m.ctx, m, id, "kill -TERM 1; sleep 60")
	if exit, err := m.Wait(m.ctx, id); err != nil || exit.OutOfMemory {
		t.Errorf("exit %+v, %v", exit, err)
	}
	_, err := m.Dial(m.ctx, id, cube.AgentPort)
	wantKind(t, err, cube.NotFound)
}

package gvisor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"cube"
	"cube/engine/enginetest"
	"cube/engine/gvisor/launch"
	pb "cube/envd/gen/process"
	"cube/envd/gen/process/processconnect"
	"cube/internal/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

var testResources = cube.Resources{CPUs: 2, MemoryMB: 512, DiskMB: 256, Pids: 256}

// dataDir returns a directory that the sandboxes' processes, which run as
// nobody, can pass through: t.TempDir's parents they cannot.
func dataDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cube")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func open(t *testing.T, dir string) *Engine {
	t.Helper()
	e, err := New(Config{DataDir: dir, Network: netip.MustParsePrefix("10.213.0.0/16"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestConformance(t *testing.T) {
	dir := dataDir(t)
	suite := enginetest.Suite{
		Open:      func(t *testing.T) cube.Engine { return open(t, dir) },
		Resources: testResources,
		Leftovers: func(*testing.T) []string {
			layers, _ := filepath.Glob(filepath.Join(dir, "images", "layers", "*"))
			return append(testhost.Leftovers(dir), layers...)
		},
		Shell: shell,
		SnapshotDir: func(id cube.SnapshotID) string {
			return filepath.Join(dir, "snapshots", string(id))
		},
		FillDisk: func(t *testing.T) func() { return fillDisk(t, filepath.Join(dir, "snapshots")) },
	}
	enginetest.Run(t, suite)
	if err := open(t, dir).Close(); err != nil {
		t.Error(err)
	}
}

// fillDisk puts a small file system over a directory until free is called.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	if err := syscall.Mount("small", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".full"), make([]byte, 256<<10), 0o600); err != nil {
		t.Error(err)
	}
	return func() {
		left, err := filepath.Glob(filepath.Join(dir, ".tmp-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left on the full disk: %v, %v", left, err)
		}
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
}

// client speaks to the agent of a sandbox.
func client(e cube.Engine, id cube.SandboxID) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return e.Dial(ctx, id, cube.AgentPort)
		},
	}}
}

var initialised sync.Map // of sandboxes: only the first /init is believed

// shell runs a script as root through the agent.
func shell(ctx context.Context, e cube.Engine, id cube.SandboxID, script string) (string, error) {
	c := client(e, id)
	if _, done := initialised.LoadOrStore(id, true); !done {
		body, err := json.Marshal(map[string]string{"defaultUser": "root", "hostKey": "k"})
		if err != nil {
			return "", err
		}
		resp, err := c.Post("http://sandbox/init", "application/json", bytes.NewReader(body))
		if err != nil {
			return "", err
		}
		_ = resp.Body.Close()
	}
	stdin := false
	stream, err := processconnect.NewProcessClient(c, "http://sandbox", connect.WithProtoJSON()).Start(ctx, connect.NewRequest(&pb.StartRequest{
		Process: &pb.ProcessConfig{Cmd: "/bin/bash", Args: []string{"-c", script}},
		Stdin:   &stdin,
	}))
	if err != nil {
		return "", err
	}
	defer stream.Close()
	var out bytes.Buffer
	for stream.Receive() {
		event := stream.Msg().GetEvent()
		out.Write(event.GetData().GetStdout())
		out.Write(event.GetData().GetStderr())
		if end := event.GetEnd(); end != nil && end.GetExitCode() != 0 {
			return out.String(), fmt.Errorf("the script ends with %s", end.GetStatus())
		}
	}
	return out.String(), stream.Err()
}

// started starts a sandbox that ends with the test.
func started(t testing.TB, e *Engine, change ...func(*cube.StartRequest)) cube.SandboxID {
	t.Helper()
	req := cube.StartRequest{ID: cube.NewSandboxID(), Snapshot: cube.BaseSnapshot, Resources: testResources, Internet: true}
	for _, c := range change {
		c(&req)
	}
	if _, err := e.Start(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background(), req.ID); err != nil {
			t.Error(err)
		}
	})
	return req.ID
}

// reach tries to open a TCP connection from inside a sandbox and tells how that
// went: what the other side says, or "closed".
func reach(t *testing.T, e *Engine, id cube.SandboxID, address string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	out, err := shell(t.Context(), e, id, fmt.Sprintf("timeout 2 curl -sS --max-time 2 http://%s:%s/ 2>/dev/null || echo closed", host, port))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(out)
}

func TestNetwork(t *testing.T) {
	e := open(t, dataDir(t))
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	// Something that listens on every address of the machine.
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	service := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the host") })}
	go func() { _ = service.Serve(listener) }()
	t.Cleanup(func() { _ = service.Close() })
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, b := started(t, e), started(t, e)
	linkOf := func(id cube.SandboxID) (host, guest string) {
		r, ok := e.lookup(id)
		if !ok {
			t.Fatalf("%s does not run", id)
		}
		n := e.network.describe(r.Link)
		return n.Host.Addr().String(), n.Guest.Addr().String()
	}
	hostOfA, _ := linkOf(a)
	_, guestOfB := linkOf(b)
	if out, err := shell(t.Context(), e, b, `setsid python3 -m http.server --bind 0.0.0.0 8080 >/dev/null 2>&1 &
for i in $(seq 200); do curl -s -o /dev/null http://127.0.0.1:8080/ && exit 0; sleep 0.05; done; exit 1`); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	t.Run("the internet sees the machine's address", func(t *testing.T) {
		if got := reach(t, e, a, testhost.InternetAddr); !strings.HasPrefix(got, "198.51.100.1:") {
			t.Errorf("the internet answers %q", got)
		}
	})
	for name, address := range map[string]string{
		"a private range is closed, even where a server is": testhost.PrivateAddr,
		"the host is closed, at the sandbox's gateway":      net.JoinHostPort(hostOfA, port),
		"the host is closed, at its own address":            net.JoinHostPort("198.51.100.1", port),
		"another sandbox is closed":                         net.JoinHostPort(guestOfB, "8080"),
		"the clouds' metadata service is closed":            "169.254.169.254:80",
	} {
		t.Run(name, func(t *testing.T) {
			if got := reach(t, e, a, address); got != "closed" {
				t.Errorf("%s answers %q", address, got)
			}
		})
	}
	t.Run("a sandbox without internet reaches nothing, even if it makes itself a route", func(t *testing.T) {
		alone := started(t, e, func(r *cube.StartRequest) { r.Internet = false })
		if got := reach(t, e, alone, testhost.InternetAddr); got != "closed" {
			t.Errorf("the internet answers %q", got)
		}
		gateway, _ := linkOf(alone)
		_, _ = shell(t.Context(), e, alone, "ip route add default via "+gateway)
		if got := reach(t, e, alone, testhost.InternetAddr); got != "closed" {
			t.Errorf("with a route of its own, the internet answers %q", got)
		}
	})
	t.Run("the host cannot be reached after a restart of the server either", func(t *testing.T) {
		successor := open(t, e.cfg.DataDir)
		if got := reach(t, successor, a, net.JoinHostPort(hostOfA, port)); got != "closed" {
			t.Errorf("the host answers %q", got)
		}
		if got := reach(t, successor, a, testhost.InternetAddr); !strings.HasPrefix(got, "198.51.100.1:") {
			t.Errorf("the internet answers %q", got)
		}
	})
}

func TestAPoolThatTheMachineUsesIsRefused(t *testing.T) {
	dir := dataDir(t)
	_, err := New(Config{DataDir: dir, Network: netip.MustParsePrefix("198.51.100.0/24")})
	if err == nil || !strings.Contains(err.Error(), "--sandbox-network") {
		t.Errorf("error %v, want one that names the flag", err)
	}
	if groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + launch.Name(dir)); len(groups) > 0 {
		t.Errorf("left behind: %v", groups)
	}
}

func TestTheMachinesDevicesAreLeftAlone(t *testing.T) {
	owner := func() uint32 {
		info, err := os.Stat(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	before := owner()
	e := open(t, dataDir(t))
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	started(t, e)
	if after := owner(); after != before {
		t.Errorf("/dev/null belonged to %d and belongs to %d now", before, after)
	}
}

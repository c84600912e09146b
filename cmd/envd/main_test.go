package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	pb "cube/envd/gen/process"
	"cube/envd/gen/process/processconnect"
)

// asEnvd makes the test's own program be envd instead.
const asEnvd = "TEST_BE_ENVD"

func TestMain(m *testing.M) {
	if os.Getenv(asEnvd) == "" {
		os.Exit(m.Run())
	}
	if os.Getpid() == 1 { // with a /proc of its own, as in a sandbox
		must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		must(unix.Mount("proc", "/proc", "proc", 0, ""))
	}
	main()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// agent is an envd in a process of its own.
type agent struct {
	url     string
	process *exec.Cmd
	client  processconnect.ProcessClient
}

func start(t *testing.T, attributes *syscall.SysProcAttr) *agent {
	t.Helper()
	// An address that nothing else on this machine takes a port of meanwhile.
	free, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250)))
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()

	cmd := exec.Command(os.Args[0], "-listen", address, "-listen-tunnel", "127.0.0.1:0", "-notify")
	cmd.Env = append(os.Environ(), asEnvd+"=1")
	cmd.SysProcAttr = attributes
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()
	})
	said := bufio.NewReader(out)
	if line, err := said.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("it says %q, %v, %s", line, err, complaints.String())
	}
	if _, err := said.ReadByte(); err == nil {
		t.Fatal("it says more than that it is ready")
	}
	a := &agent{url: "http://" + address, process: cmd}
	a.client = processconnect.NewProcessClient(http.DefaultClient, a.url, connect.WithProtoJSON())
	resp, err := http.Post(a.url+"/init", "application/json", strings.NewReader(`{"defaultUser":"root","hostKey":"k"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("init is answered with %s", resp.Status)
	}
	return a
}

// run runs a script and returns its end.
func (a *agent) run(ctx context.Context, script string) (*pb.ProcessEvent_EndEvent, error) {
	stdin := false
	stream, err := a.client.Start(ctx, connect.NewRequest(&pb.StartRequest{
		Process: &pb.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: &stdin,
	}))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var end *pb.ProcessEvent_EndEvent
	for stream.Receive() {
		if e := stream.Msg().GetEvent().GetEnd(); e != nil {
			end = e
		}
	}
	return end, stream.Err()
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make process namespaces")
	}
}

func TestTheFirstProcessCollectsOrphansAndLosesNoStatus(t *testing.T) {
	needRoot(t)
	a := start(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS})
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			// Each leaves three orphans that end when they like.
			script := fmt.Sprintf("for j in 1 2 3; do (exec sleep 0.0%d >/dev/null 2>&1 &) ; done; exit %d", i%10, i)
			end, err := a.run(t.Context(), script)
			if err != nil || end.GetExitCode() != int32(i) {
				t.Errorf("process %d ended with %v, %v", i, end, err)
			}
		})
	}
	all.Wait()
	var left []string
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if left = childrenOf(t, a.process.Process.Pid); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 20 seconds there are still children:\n%s", strings.Join(left, ""))
		}
	}
}

// childrenOf returns the lines of /proc of all children, collected or not.
func childrenOf(t *testing.T, parent int) []string {
	t.Helper()
	ids, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var children []string
	for _, id := range ids {
		stat, err := os.ReadFile("/proc/" + id.Name() + "/stat")
		if err != nil {
			continue // no process, or gone
		}
		_, afterName, _ := strings.Cut(string(stat), ") ")
		var state string
		var its int
		if _, err := fmt.Sscan(afterName, &state, &its); err == nil && its == parent {
			children = append(children, string(stat))
		}
	}
	return children
}

func TestOnSIGTERMItEndsWithAllItsProcesses(t *testing.T) {
	needRoot(t)
	for name, attributes := range map[string]*syscall.SysProcAttr{
		"as the first process": {Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS},
		"as any other":         nil,
	} {
		a := start(t, attributes)
		ended := make(chan error, 1)
		began := make(chan struct{})
		go func() {
			stdin := false
			stream, err := a.client.Start(t.Context(), connect.NewRequest(&pb.StartRequest{
				Process: &pb.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", "trap '' TERM; sleep 1000"}}, Stdin: &stdin,
			}))
			if err == nil {
				stream.Receive()
				close(began)
				for stream.Receive() {
				}
				err = stream.Err()
			}
			ended <- err
		}()
		<-began
		children := childrenOf(t, a.process.Process.Pid)
		if err := a.process.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := a.process.Wait(); err != nil {
			t.Errorf("%s: it ends with %v", name, err)
		}
		if err := <-ended; err == nil {
			t.Errorf("%s: the stream of a process that was cut off ends as if it was complete", name)
		}
		for _, child := range children {
			pid, _, _ := strings.Cut(child, " ")
			if _, err := os.Stat("/proc/" + pid); err == nil {
				t.Errorf("%s: its child is still there: %s", name, child)
			}
		}
	}
}

func TestWithSomebodyElsesRightsItIsSudoAlone(t *testing.T) {
	for _, row := range []struct {
		name      string
		uid, euid int
		want      bool
	}{
		{"/opt/cube/envd", 0, 0, false},
		{"/opt/cube/envd", 1000, 1000, false},
		{"sudo", 1000, 0, true},
		{"/opt/cube/bin/sudo", 0, 0, true},
		{"envd", 1001, 0, true},
		{"", 1001, 0, true},
	} {
		if got := isSudo(row.name, row.uid, row.euid); got != row.want {
			t.Errorf("%q of %d with the rights of %d: %t", row.name, row.uid, row.euid, got)
		}
	}
}

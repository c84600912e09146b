package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"cube/e2e/inside/echo"
)

// inside starts the server of ./inside in a sandbox.
func (s *server) inside(c sandbox) {
	s.t.Helper()
	binary := filepath.Join(s.t.TempDir(), "inside")
	build := exec.CommandContext(s.t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./inside")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("building the server for inside: %v\n%s", err, out)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), "POST", s.url+"/files?path=/tmp/inside", bytes.NewReader(content))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"E2b-Sandbox-Id": c.SandboxID, "E2b-Sandbox-Port": "49983", "X-Access-Token": c.EnvdAccessToken, "Content-Type": "application/octet-stream",
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("uploading: %s", resp.Status)
	}
	s.command(c, "chmod +x /tmp/inside; setsid /tmp/inside >/tmp/inside.log 2>&1 </dev/null &")
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		status, _ := s.call("GET", "/", nil, "E2b-Sandbox-Id", c.SandboxID, "E2b-Sandbox-Port", "8000")
		if status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server inside does not start: %d", status)
		}
	}
}

// TestInside speaks with a server inside as its clients do.
func TestInside(t *testing.T) {
	s := start(t)
	c := s.create()
	s.inside(c)
	t.Run("gRPC", func(t *testing.T) { s.speakGRPC(t, c) })
	t.Run("WebSocket", func(t *testing.T) { s.speakWebSocket(t, c) })
	t.Run("idle connections", func(t *testing.T) { s.idle(t, c) })
	t.Run("an upload that is larger than what the server may keep", func(t *testing.T) { s.streamUp(t, c) })
}

func (s *server) speakGRPC(t *testing.T, c sandbox) {
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(s.url, "http://"), grpc.WithNoProxy(),
		grpc.WithAuthority("9000-"+c.SandboxID+".localhost"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out wrapperspb.StringValue
	var trailer metadata.MD
	if err := conn.Invoke(ctx, echo.Unary, wrapperspb.String("hello"), &out, grpc.Trailer(&trailer)); err != nil || out.GetValue() != "hello" || !slices.Equal(trailer["sum"], []string{"5"}) {
		t.Errorf("a call: %v, %v, trailer %v", &out, err, trailer)
	}
	if err := conn.Invoke(ctx, echo.Refuse, wrapperspb.String(""), &out); status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "not today" {
		t.Errorf("a refusal: %v", err)
	}
	large := strings.Repeat("x", 3<<20)
	if err := conn.Invoke(ctx, echo.Unary, wrapperspb.String(large), &out); err != nil || out.GetValue() != large {
		t.Errorf("a large call: %d bytes, %v", len(out.GetValue()), err)
	}

	stream, err := conn.NewStream(ctx, &echo.CountStream, echo.Count)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stream.SendMsg(wrapperspb.String("n")), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for err = stream.RecvMsg(&out); err == nil; err = stream.RecvMsg(&out) {
		got = append(got, out.GetValue())
	}
	if !errors.Is(err, io.EOF) || !slices.Equal(got, []string{"n0", "n1", "n2"}) || !slices.Equal(stream.Trailer()["sum"], []string{"3"}) {
		t.Errorf("a stream of answers: %q, %v, trailer %v", got, err, stream.Trailer())
	}

	// Each answer is waited for before the next message: both ways are open at once.
	chat, err := conn.NewStream(ctx, &echo.ChatStream, echo.Chat)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if err := chat.SendMsg(wrapperspb.String(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
		if err := chat.RecvMsg(&out); err != nil || out.GetValue() != fmt.Sprint(n) {
			t.Fatalf("message %d: %q, %v", n, out.GetValue(), err)
		}
	}
	if err := chat.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := chat.RecvMsg(&out); status.Code(err) != codes.DataLoss {
		t.Errorf("the end of the stream: %v", err)
	}
}

// openWebSocket opens one, and leaves it open.
func (s *server) openWebSocket(c sandbox) (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: 8000-%s.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: echo\r\nSec-WebSocket-Key: %s\r\n\r\n",
		c.SandboxID, base64.StdEncoding.EncodeToString(make([]byte, 16)))
	reader := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(reader, nil)
	if err == nil && (resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Protocol") != "echo") {
		err = fmt.Errorf("%s %v", resp.Status, resp.Header)
	}
	if err != nil {
		_ = conn.Close()
	}
	return conn, reader, err
}

// exchange sends a frame with a mask of zeros, and reads the one that answers it.
func exchange(conn net.Conn, reader io.Reader, code byte, data string) (byte, string, error) {
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := conn.Write(append([]byte{0x80 | code, 0x80 | byte(len(data)), 0, 0, 0, 0}, data...)); err != nil {
		return 0, "", err
	}
	var head [2]byte
	if _, err := io.ReadFull(reader, head[:]); err != nil {
		return 0, "", err
	}
	answer := make([]byte, head[1]&0x7f)
	_, err := io.ReadFull(reader, answer)
	return head[0] & 0x0f, string(answer), err
}

func (s *server) speakWebSocket(t *testing.T, c sandbox) {
	conn, reader, err := s.openWebSocket(c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, row := range []struct {
		name       string
		code, want byte
		data       string
	}{
		{"text", 1, 1, "hello"}, {"a ping", 9, 10, "are you there"}, {"no text", 1, 1, ""}, {"the end, with its reason", 8, 8, "\x0f\xa1enough"},
	} {
		if code, data, err := exchange(conn, reader, row.code, row.data); err != nil || code != row.want || data != row.data {
			t.Errorf("%s is answered with %d %q, %v", row.name, code, data, err)
		}
	}
	if n, err := reader.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("behind the end there are %d bytes, %v", n, err)
	}
}

// memory is what the server holds, and held at the most since it was last asked, in
// bytes.
func (s *server) memory() (now, most int64) {
	proc := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid)
	data, err := os.ReadFile(proc + "status")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			now = kib << 10
		case "VmHWM:":
			most = kib << 10
		}
	}
	_ = os.WriteFile(proc+"clear_refs", []byte("5"), 0) // proc(5): begins anew
	return now, most
}

// number is one that a person who measures can raise.
func number(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return usual
}

// streamUp sends 256 MB, or CUBE_UPLOAD_MB, to a server that reads it.
func (s *server) streamUp(t *testing.T, c sandbox) {
	size := int64(number("CUBE_UPLOAD_MB", 256)) << 20
	before, _ := s.memory()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/upload", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "8000-" + c.SandboxID + ".localhost"
	begun := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintln(size, "<nil>"); err != nil || string(answer) != want {
		t.Errorf("inside arrived %q (%v), want %q", answer, err, want)
	}
	_, most := s.memory()
	t.Logf("%d MB in %s; the server's memory rose by %d MB at the most", size>>20, time.Since(begun).Round(time.Millisecond), (most-before)>>20)
	if most-before > 96<<20 {
		t.Errorf("the server held %d MB of it", (most-before)>>20)
	}
}

// idle holds 1,000 WebSockets open, or CUBE_CONNECTIONS, of which none says a thing.
func (s *server) idle(t *testing.T, c sandbox) {
	count := number("CUBE_CONNECTIONS", 1000)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < uint64(count)+200 {
		t.Skipf("a process of this machine may open %d files alone (%v)", limit.Cur, err)
	}
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.cmd.Process.Pid)); err != nil || !strings.Contains(string(limits), "Max open files            1048576              1048576") {
		t.Logf("the server may not open as many files as it wants (%v)", err)
	}
	type webSocket struct {
		net.Conn
		reader *bufio.Reader
	}
	before, _ := s.memory()
	inside := s.groupMemory(c)
	begun := time.Now()
	connections := make([]webSocket, count)
	defer func() {
		for _, conn := range connections {
			if conn.Conn != nil {
				_ = conn.Close()
			}
		}
	}()
	each := func(do func(*webSocket) error) {
		t.Helper()
		var all sync.WaitGroup
		next := make(chan *webSocket)
		failed := make(chan error, count)
		for range 32 {
			all.Go(func() {
				for conn := range next {
					if err := do(conn); err != nil {
						failed <- err
					}
				}
			})
		}
		for i := range connections {
			next <- &connections[i]
		}
		close(next)
		all.Wait()
		if len(failed) > 0 {
			t.Fatalf("%d of %d failed, the first with %v", len(failed), count, <-failed)
		}
	}
	each(func(conn *webSocket) (err error) {
		conn.Conn, conn.reader, err = s.openWebSocket(c)
		return err
	})
	after, _ := s.memory()
	t.Logf("%d connections in %s: the server's memory rose by %d KB for each, the sandbox's by %d KB", count, time.Since(begun).Round(time.Millisecond),
		(after-before)>>10/int64(count), (s.groupMemory(c)-inside)>>10/int64(count))
	if (after-before)/int64(count) > 128<<10 {
		t.Errorf("the server holds %d KB for each", (after-before)>>10/int64(count))
	}
	if status := s.health(c.SandboxID); status != http.StatusNoContent {
		t.Errorf("the agent answers %d meanwhile", status)
	}
	each(func(conn *webSocket) error {
		code, data, err := exchange(conn.Conn, conn.reader, 9, "still there")
		if err == nil && (code != 10 || data != "still there") {
			err = fmt.Errorf("a ping is answered with %d %q", code, data)
		}
		return err
	})
}

// groupMemory is what the sandbox's control group holds, in bytes; 0 if that cannot
// be told.
func (s *server) groupMemory(c sandbox) int64 {
	for _, name := range []string{"/sys/fs/cgroup/memory/*/" + c.SandboxID + "/memory.usage_in_bytes", "/sys/fs/cgroup/*/" + c.SandboxID + "/memory.current"} {
		files, _ := filepath.Glob(name)
		for _, file := range files {
			if data, err := os.ReadFile(file); err == nil {
				n, _ := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
				return n
			}
		}
	}
	return 0
}

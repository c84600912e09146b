package gateway

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"cube"
	"cube/engine/fake"
	"cube/envd/gen/filesystem"
	"cube/envd/gen/filesystem/filesystemconnect"
	"cube/envd/gen/process"
	"cube/envd/gen/process/processconnect"
)

// secret stands where an observer must not see it.
const secret = "s3cret-of-a-test"

// otherAgent is an engine in whose sandboxes another agent answers, once they
// run.
type otherAgent struct {
	*fake.Engine
	agent *httptest.Server
	mu    sync.Mutex
	runs  bool
}

func (e *otherAgent) Dial(ctx context.Context, id cube.SandboxID, port uint16) (net.Conn, error) {
	e.mu.Lock()
	runs := e.runs
	e.mu.Unlock()
	if runs && port == cube.AgentPort {
		return new(net.Dialer).DialContext(ctx, "tcp", e.agent.Listener.Addr().String())
	}
	return e.Engine.Dial(ctx, id, port)
}

// observed is a world with one sandbox and somebody who observes it.
type observed struct {
	*world
	id   cube.SandboxID
	told chan Operation
}

func newObserved(t *testing.T, agent http.Handler) *observed {
	engine := &otherAgent{Engine: &fake.Engine{}, agent: httptest.NewServer(agent)}
	t.Cleanup(engine.agent.Close)
	o := &observed{world: newWorldOn(t, engine.Engine, engine), told: make(chan Operation, 100)}
	o.gateway.observe = func(op Operation) { o.told <- op }
	o.id = o.create(t)
	engine.mu.Lock()
	engine.runs = true
	engine.mu.Unlock()
	return o
}

// Do sends a request to the agent: it is a connect.HTTPClient.
func (o *observed) Do(r *http.Request) (*http.Response, error) {
	r.Host = fmt.Sprintf("%d-%s.cube.test", cube.AgentPort, o.id)
	return o.Client().Do(r)
}

// want compares what was told with an operation's details. The answer can be
// with the client before its handler has returned, but not before it was told.
func (o *observed) want(t *testing.T, want Operation) {
	t.Helper()
	if len(o.told) != 1 {
		t.Fatalf("told of %d operations, want 1", len(o.told))
	}
	got := <-o.told
	if got.Time.IsZero() || got.RequestID == "" || got.Remote != "127.0.0.1" || got.Sandbox != o.id {
		t.Errorf("who and where: %+v", got)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Operation{}, "Time", "RequestID", "Remote", "Sandbox", "Owner")); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if strings.Contains(fmt.Sprintf("%+v", got), secret) {
		t.Errorf("a secret was told: %+v", got)
	}
}

// The agent's two services, as far as they are asked here.
type processes struct {
	processconnect.UnimplementedProcessHandler
}

func (processes) Start(_ context.Context, r *connect.Request[process.StartRequest], s *connect.ServerStream[process.StartResponse]) error {
	if r.Msg.GetProcess().GetEnvs()["TOKEN"] != secret {
		return connect.NewError(connect.CodeInvalidArgument, io.ErrUnexpectedEOF)
	}
	return s.Send(&process.StartResponse{})
}

func (processes) SendInput(_ context.Context, r *connect.Request[process.SendInputRequest]) (*connect.Response[process.SendInputResponse], error) {
	if string(r.Msg.GetInput().GetStdin()) != secret {
		return nil, connect.NewError(connect.CodeInvalidArgument, io.ErrUnexpectedEOF)
	}
	return connect.NewResponse(&process.SendInputResponse{}), nil
}

func (processes) SendSignal(context.Context, *connect.Request[process.SendSignalRequest]) (*connect.Response[process.SendSignalResponse], error) {
	return connect.NewResponse(&process.SendSignalResponse{}), nil
}

type files struct {
	filesystemconnect.UnimplementedFilesystemHandler
}

func (files) Move(context.Context, *connect.Request[filesystem.MoveRequest]) (*connect.Response[filesystem.MoveResponse], error) {
	return connect.NewResponse(&filesystem.MoveResponse{}), nil
}

func (files) Remove(context.Context, *connect.Request[filesystem.RemoveRequest]) (*connect.Response[filesystem.RemoveResponse], error) {
	return nil, connect.NewError(connect.CodeNotFound, io.EOF)
}

func TestWhatIsDoneInsideIsTold(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle(processconnect.NewProcessHandler(processes{}))
	mux.Handle(filesystemconnect.NewFilesystemHandler(files{}))
	o := newObserved(t, mux)
	root := "Basic " + base64.StdEncoding.EncodeToString([]byte("root"))
	for name, options := range map[string][]connect.ClientOption{
		"proto":    nil,
		"json":     {connect.WithProtoJSON()},
		"gzip":     {connect.WithSendGzip()},
		"grpc-web": {connect.WithGRPCWeb()},
		"grpc-web of gzipped json": {
			connect.WithGRPCWeb(), connect.WithProtoJSON(), connect.WithSendGzip(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := processconnect.NewProcessClient(o, o.URL, options...)
			start := connect.NewRequest(&process.StartRequest{Process: &process.ProcessConfig{
				Cmd: "/bin/bash", Args: []string{"-l", "-c", "make > log"}, Envs: map[string]string{"TOKEN": secret},
			}})
			start.Header().Set("Authorization", root)
			start.Header().Set("X-Access-Token", secret)
			stream, err := p.Start(t.Context(), start)
			if err != nil {
				t.Fatal(err)
			}
			if !stream.Receive() {
				t.Fatal(stream.Err())
			}
			for stream.Receive() {
			}
			_ = stream.Close()
			o.want(t, Operation{Action: ProcessStarted, User: "root", Command: []string{"/bin/bash", "-l", "-c", "make > log"}, Status: 200})

			pid := &process.ProcessSelector{Selector: &process.ProcessSelector_Pid{Pid: 7}}
			tag := &process.ProcessSelector{Selector: &process.ProcessSelector_Tag{Tag: "x"}}
			input := &process.ProcessInput{Input: &process.ProcessInput_Stdin{Stdin: []byte(secret)}}
			if _, err := p.SendInput(t.Context(), connect.NewRequest(&process.SendInputRequest{Process: pid, Input: input})); err != nil {
				t.Fatal(err)
			}
			o.want(t, Operation{Action: ProcessInput, Process: "pid 7", Status: 200})
			if _, err := p.SendSignal(t.Context(), connect.NewRequest(&process.SendSignalRequest{Process: tag, Signal: process.Signal_SIGNAL_SIGKILL})); err != nil {
				t.Fatal(err)
			}
			o.want(t, Operation{Action: ProcessSignalled, Process: "tag x", Signal: "SIGNAL_SIGKILL", Status: 200})
			if _, err := p.List(t.Context(), connect.NewRequest(&process.ListRequest{})); err == nil || len(o.told) > 0 {
				t.Error("a list of processes was told")
			}

			f := filesystemconnect.NewFilesystemClient(o, o.URL, options...)
			if _, err := f.Move(t.Context(), connect.NewRequest(&filesystem.MoveRequest{Source: "/a", Destination: "/b"})); err != nil {
				t.Fatal(err)
			}
			o.want(t, Operation{Action: FileMoved, Paths: []string{"/a", "/b"}, Status: 200})
			if _, err := f.Remove(t.Context(), connect.NewRequest(&filesystem.RemoveRequest{Path: "/a"})); connect.CodeOf(err) != connect.CodeNotFound {
				t.Fatal(err)
			}
			status := 404
			if strings.HasPrefix(name, "grpc") {
				status = 200 // its own status stands behind the answer
			}
			o.want(t, Operation{Action: FileRemoved, Paths: []string{"/a"}, Status: status})
		})
	}
}

func TestFilesThatAreMovedInAndOutAreTold(t *testing.T) {
	o := newObserved(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
	}))
	form := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"/x/a\"\r\n\r\n" + secret +
		"\r\n--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n" + secret +
		"\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b\"\r\n\r\n"
	signed := "&username=root&signature=" + secret
	for _, row := range []struct {
		method, target, kind, body string
		zip                        bool
		want                       Operation
	}{
		{"GET", "/files?path=/etc/passwd" + signed, "", "", false, Operation{Action: FileRead, User: "root", Paths: []string{"/etc/passwd"}}},
		{"HEAD", "/files?path=%2Fa%20b", "", "", false, Operation{Action: FileRead, Paths: []string{"/a b"}}},
		{"GET", "/files", "", "", false, Operation{Action: FileRead, Incomplete: true}},
		{"POST", "/files?path=a" + signed, "application/octet-stream", secret, false, Operation{Action: FileWritten, User: "root", Paths: []string{"a"}}},
		{"POST", "/files", "multipart/form-data; boundary=b", form + "x\r\n--b--\r\n", false, Operation{Action: FileWritten, Paths: []string{"/x/a", "b"}}},
		{"POST", "/files", "multipart/form-data; boundary=b", form + "x\r\n--b--\r\n", true, Operation{Action: FileWritten, Paths: []string{"/x/a", "b"}}},
		{"POST", "/files", "multipart/form-data; boundary=b", form + strings.Repeat("x", 2*maxPeek) + "\r\n--b--\r\n", false, Operation{Action: FileWritten, Paths: []string{"/x/a", "b"}, Incomplete: true}},
		{"POST", "/files", "text/plain", secret, false, Operation{Action: FileWritten, Incomplete: true}},
		{"POST", "/files/compose", "application/json", `{"source_paths":["a","b"],"destination":"c","username":"root"}`, false, Operation{Action: FileComposed, User: "root", Paths: []string{"a", "b", "c"}}},
		{"POST", "/files/compose", "application/json", `{"source_paths":["a`, false, Operation{Action: FileComposed, Incomplete: true}},
	} {
		body := []byte(row.body)
		if row.zip {
			body = zipped(body)
		}
		r, err := http.NewRequestWithContext(t.Context(), row.method, o.URL+row.target, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", row.kind)
		if row.zip {
			r.Header.Set("Content-Encoding", "gzip")
		}
		resp, err := o.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		row.want.Status = http.StatusAccepted
		o.want(t, row.want)
	}
}

func TestWhatIsObservedGoesInAsItWasSent(t *testing.T) {
	o := newObserved(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	}))
	random := rand.NewChaCha8([32]byte{1})
	for _, target := range []string{processconnect.ProcessStartProcedure, filesystemconnect.FilesystemMoveProcedure, "/files?path=x", "/files", "/else"} {
		for _, kind := range []string{"", "application/json", "application/connect+proto", "application/grpc-web+json", "multipart/form-data; boundary=b", ";;"} {
			for _, size := range []int{0, 1, 100, maxPeek, maxPeek + 1, 1 << 20} {
				for _, chunked := range []bool{false, true} {
					body := make([]byte, size)
					_, _ = random.Read(body)
					var content io.Reader = bytes.NewReader(body)
					if chunked {
						content = io.MultiReader(content) // of a length that net/http does not know
					}
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.URL+target, content)
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("Content-Type", kind)
					resp, err := o.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					back, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if err != nil || resp.StatusCode != 200 || !bytes.Equal(back, body) {
						t.Fatalf("%s %q: %d bytes came back as %d, %d %v", target, kind, size, len(back), resp.StatusCode, err)
					}
					if told := len(o.told); told != 1 && target != "/else" || told != 0 && target == "/else" {
						t.Fatalf("%s: told %d times", target, told)
					}
					for len(o.told) > 0 {
						if op := <-o.told; target != "/files?path=x" && !op.Incomplete {
							t.Errorf("%s %q: of %d random bytes was told %+v", target, kind, size, op)
						}
					}
				}
			}
		}
	}
}

func TestAStreamThatIsObservedIsNotHeldUp(t *testing.T) {
	o := newObserved(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		part := make([]byte, 3)
		for range 2 {
			if _, err := io.ReadFull(r.Body, part); err != nil {
				panic(err)
			}
			_, _ = w.Write(part)
			_ = control.Flush()
		}
	}))
	conn := o.sendTo(t, "POST "+processconnect.ProcessStreamInputProcedure,
		fmt.Sprintf("Host: %d-%s.cube.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n", cube.AgentPort, o.id))
	resp := conn.answer(t)
	wantRead(t, resp.Body, "one")
	o.want(t, Operation{Action: ProcessInput, Incomplete: true, Status: 200})
	if _, err := io.WriteString(conn, "3\r\ntwo\r\n0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	wantRead(t, resp.Body, "two")
}

func TestARequestWithoutAnAnswerIsToldOnce(t *testing.T) {
	o := newObserved(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.URL+"/files?path=x", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := o.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	o.want(t, Operation{Action: FileWritten, Paths: []string{"x"}, Status: 502})

	entered, leave := make(chan struct{}), make(chan struct{})
	o = newObserved(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-leave }))
	defer close(leave)
	ctx, goAway := context.WithCancel(t.Context())
	go func() { <-entered; goAway() }()
	r, err = http.NewRequestWithContext(ctx, http.MethodGet, o.URL+"/files?path=y", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Do(r); err == nil {
		t.Fatal("answered")
	}
	if op := <-o.told; op.Status != 0 || len(op.Paths) != 1 {
		t.Errorf("told %+v, want no status", op)
	}
}

func zipped(content []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(content)
	_ = w.Close()
	return b.Bytes()
}

func FuzzDetails(f *testing.F) {
	start, err := proto.Marshal(&process.StartRequest{Process: &process.ProcessConfig{
		Cmd: "ls", Args: []string{"-l"}, Envs: map[string]string{"TOKEN": secret},
	}})
	if err != nil {
		f.Fatal(err)
	}
	frame := append([]byte{0, 0, 0, 0, byte(len(start))}, start...)
	f.Add(processconnect.ProcessStartProcedure, "application/connect+proto", "", frame)
	f.Add(processconnect.ProcessStartProcedure, "application/connect+json", "gzip", append([]byte{1, 0, 0, 0, 30}, zipped([]byte("{}"))...))
	f.Add(processconnect.ProcessSendInputProcedure, "application/json", "", []byte(`{"process":{"pid":1},"input":{"stdin":"czNjcmV0"}}`))
	f.Add(filesystemconnect.FilesystemMoveProcedure, "application/proto", "gzip", zipped(bytes.Repeat([]byte{10, 1, 'x'}, maxPeek)))
	f.Add("/files", "multipart/form-data; boundary=b", "", []byte("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"/x/a\"\r\n\r\n"))
	f.Add("/files", "multipart/form-data", "gzip", []byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, path, kind, encoding string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.URL.Path = path
		for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
			r.Header.Set(name, encoding)
		}
		r.Header.Set("Content-Type", kind)
		read, found := readerOf(r)
		if !found {
			return
		}
		body = body[:min(len(body), maxPeek)]
		var o Operation
		read.details(&o, r, body, true)
		size := len(o.Process) + len(o.Signal) + len(strings.Join(append(o.Command, o.Paths...), ""))
		if size > 4*maxPeek {
			t.Errorf("%d bytes were kept", size)
		}
		if read.message != nil && o.Incomplete && size > 0 {
			t.Errorf("told %+v of a message that cannot be read", o)
		}
	})
}

package build

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"cube"
	fs "cube/envd/gen/filesystem"
	"cube/envd/gen/filesystem/filesystemconnect"
	pb "cube/envd/gen/process"
	"cube/envd/gen/process/processconnect"
	"cube/image"
)

// world is a runner over an engine in memory: what a sandbox writes is a list of
// what was done in it. Commands are what the test says.
type world struct {
	t *testing.T
	// run does a command; nil for one that ends well at once.
	run func(ctx context.Context, c ran, print func(string)) (status string, err error)
	// onCheckpoint and onStop may fail what the engine does.
	onCheckpoint func(cube.CheckpointRequest) error
	ports        map[uint16]http.Handler
	image        image.Image
	pullErr      error
	config       Config

	mu        sync.Mutex
	sandboxes map[cube.SandboxID]*sandbox
	snapshots map[cube.SnapshotID][]string
	layers    map[string]cube.SnapshotID
	uploads   map[string]string
	places    places
	entries   []cube.LogEntry
	started   int
	commands  []ran
}

// ran is a command as the agent was asked for it.
type ran struct {
	command, user, cwd string
	env                map[string]string
}

type sandbox struct {
	processconnect.UnimplementedProcessHandler
	world *world
	files []string
	dead  chan struct{}
	exit  cube.Exit
	key   string // that its agent was told
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, sandboxes: map[cube.SandboxID]*sandbox{}, layers: map[string]cube.SnapshotID{}, uploads: map[string]string{},
		snapshots: map[cube.SnapshotID][]string{cube.BaseSnapshot: {"base"}},
		image:     image.Image{Digest: "sha256:1", Env: []string{"PATH=/image/bin", "A=1"}, Entrypoint: []string{"/serve"}, Cmd: []string{"now"}, User: "www:www", Workdir: "/srv"},
	}
	t.Cleanup(func() {
		if len(w.sandboxes) > 0 {
			t.Errorf("%d sandboxes are left", len(w.sandboxes))
		}
	})
	return w
}

// build runs a build and forgets the log of the one before.
func (w *world) build(ctx context.Context, spec Spec) (Result, error) {
	w.t.Helper()
	cfg := w.config
	cfg.Engine, cfg.Cache, cfg.Uploads, cfg.Log = w, w, w, slog.New(slog.DiscardHandler)
	cfg.Pull = func(context.Context, string, *image.Credentials) (image.Image, error) { return w.image, w.pullErr }
	w.entries = nil
	spec.Resources = cube.Resources{CPUs: 1, MemoryMB: 64, DiskMB: 10, Pids: 10}
	return NewRunner(cfg).Run(ctx, "build", spec, func(e cube.LogEntry) { w.entries = append(w.entries, e) })
}

func (w *world) mustBuild(spec Spec) Result {
	w.t.Helper()
	result, err := w.build(w.t.Context(), spec)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.logged())
	}
	return result
}

// failure is that of a build which must fail.
func (w *world) failure(spec Spec) cube.BuildFailure {
	w.t.Helper()
	_, err := w.build(w.t.Context(), spec)
	e, ok := errors.AsType[*Error](err)
	if !ok {
		w.t.Fatalf("the build ended with %v\n%s", err, w.logged())
	}
	return e.Failure
}

// files is what a snapshot holds.
func (w *world) files(id cube.SnapshotID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.snapshots[id], ", ")
}

// unnamed returns the snapshots that nothing names but these.
func (w *world) unnamed(named ...cube.SnapshotID) []cube.SnapshotID {
	w.mu.Lock()
	defer w.mu.Unlock()
	named = append(named, cube.BaseSnapshot)
	for _, id := range w.layers {
		named = append(named, id)
	}
	var left []cube.SnapshotID
	for id := range w.snapshots {
		if !slices.Contains(named, id) {
			left = append(left, id)
		}
	}
	return left
}

// command returns how a command ran last.
func (w *world) command(command string) ran {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range slices.Backward(w.commands) {
		if c.command == command {
			return c
		}
	}
	w.t.Fatalf("%s did not run", command)
	return ran{}
}

// running returns the sandboxes that are there.
func (w *world) running() []cube.SandboxID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.sandboxes))
}

func (w *world) logged() string {
	var lines strings.Builder
	for _, e := range w.entries {
		fmt.Fprintf(&lines, "%s %s: %s\n", e.Step, e.Level, e.Message)
	}
	return lines.String()
}

func (w *world) Start(ctx context.Context, r cube.StartRequest) (cube.Timings, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	files, ok := w.snapshots[r.Snapshot]
	if !ok {
		return cube.Timings{}, cube.Errorf(cube.NotFound, "no snapshot %s", r.Snapshot)
	}
	if err := ctx.Err(); err != nil {
		return cube.Timings{}, err
	}
	s := &sandbox{world: w, files: slices.Clone(files), dead: make(chan struct{})}
	w.sandboxes[r.ID] = s
	w.started++
	return cube.Timings{}, nil
}

func (w *world) Stop(_ context.Context, id cube.SandboxID) error {
	w.kill(id, cube.Exit{})
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sandboxes, id)
	return nil
}

// kill ends a sandbox, which Stop removes then.
func (w *world) kill(id cube.SandboxID, exit cube.Exit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sandboxes[id]
	if s == nil {
		return
	}
	select {
	case <-s.dead:
	default:
		s.exit = exit
		close(s.dead)
	}
}

func (w *world) Wait(ctx context.Context, id cube.SandboxID) (cube.Exit, error) {
	w.mu.Lock()
	s := w.sandboxes[id]
	w.mu.Unlock()
	if s == nil {
		return cube.Exit{}, nil
	}
	select {
	case <-s.dead:
		return s.exit, nil
	case <-ctx.Done():
		return cube.Exit{}, ctx.Err()
	}
}

func (w *world) Checkpoint(ctx context.Context, r cube.CheckpointRequest) (cube.SnapshotInfo, error) {
	if w.onCheckpoint != nil {
		if err := w.onCheckpoint(r); err != nil {
			return cube.SnapshotInfo{}, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return cube.SnapshotInfo{}, err
	}
	files := slices.Clone(w.sandboxes[r.Sandbox].files)
	if r.Memory == r.Layer {
		w.t.Errorf("neither a layer nor memory: %+v", r)
	}
	if r.Memory {
		files = append(files, "memory")
	}
	w.snapshots[r.Snapshot] = files
	return cube.SnapshotInfo{ID: r.Snapshot}, nil
}

func (w *world) Discard(_ context.Context, id cube.SnapshotID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.snapshots, id)
	return nil
}

func (w *world) AddImage(_ context.Context, r cube.ImageRequest) (cube.SnapshotInfo, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.snapshots[r.Snapshot] = []string{"image"}
	return cube.SnapshotInfo{}, nil
}

func (w *world) Layer(_ context.Context, key string) (cube.SnapshotID, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, ok := w.layers[key]
	return id, ok, nil
}

func (w *world) PutLayer(_ context.Context, key string, id cube.SnapshotID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old, ok := w.layers[key]; ok {
		delete(w.snapshots, old)
	}
	w.layers[key] = id
	return nil
}

func (w *world) Open(_ context.Context, scope, hash string) (io.ReadCloser, int64, error) {
	content, ok := w.uploads[scope+" "+hash]
	if !ok {
		return nil, 0, cube.Errorf(cube.NotFound, "no such upload")
	}
	return io.NopCloser(strings.NewReader(content)), int64(len(content)), nil
}

func (w *world) Dial(_ context.Context, id cube.SandboxID, port uint16) (net.Conn, error) {
	w.mu.Lock()
	s := w.sandboxes[id]
	w.mu.Unlock()
	if s == nil {
		return nil, cube.Errorf(cube.NotFound, "no sandbox %s", id)
	}
	handler := w.ports[port]
	if port == cube.AgentPort {
		handler = s.agent()
	}
	if handler == nil {
		return nil, cube.Errorf(cube.Unavailable, "nothing listens on port %d", port)
	}
	ours, theirs := net.Pipe()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = server.Serve(&oneConn{conn: theirs}) }()
	go func() { <-s.dead; _ = theirs.Close() }()
	return ours, nil
}

// places are files below directories, of all sandboxes.
type places struct {
	filesystemconnect.UnimplementedFilesystemHandler
	files map[string]string
}

func (p places) ListDir(_ context.Context, r *connect.Request[fs.ListDirRequest]) (*connect.Response[fs.ListDirResponse], error) {
	file, ok := p.files[r.Msg.GetPath()]
	if !ok {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such directory"))
	}
	return connect.NewResponse(&fs.ListDirResponse{Entries: []*fs.EntryInfo{{Name: file}}}), nil
}

// oneConn is a listener that has one connection.
type oneConn struct {
	conn net.Conn
	once sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	var conn net.Conn
	l.once.Do(func() { conn = l.conn })
	if conn == nil {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

func (s *sandbox) agent() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /init", func(rw http.ResponseWriter, r *http.Request) {
		var settings struct{ HostKey string }
		if err := json.NewDecoder(r.Body).Decode(&settings); err != nil {
			s.world.t.Error(err)
		}
		s.world.mu.Lock()
		s.key = settings.HostKey
		s.world.mu.Unlock()
		rw.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /build/{what}", func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if key := r.Header.Get("X-Host-Key"); key == "" || key != s.key {
			s.world.t.Errorf("%s has the key %q", r.URL, key)
		}
		what := strings.TrimSpace(r.PathValue("what") + " " + string(bytes.TrimSpace(body)))
		if r.URL.RawQuery != "" {
			what = r.PathValue("what") + " " + r.URL.RawQuery + " of " + string(body)
		}
		if strings.Contains(what, "refuse") {
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(rw, `{"code":400,"message":"no, because"}`)
			return
		}
		s.wrote(what)
		_, _ = io.WriteString(rw, "{}")
	})
	mux.Handle(processconnect.NewProcessHandler(s))
	mux.Handle(filesystemconnect.NewFilesystemHandler(s.world.places))
	return mux
}

func (s *sandbox) wrote(what string) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.files = append(s.files, what)
}

// Start does what the test says a command does.
func (s *sandbox) Start(ctx context.Context, r *connect.Request[pb.StartRequest], stream *connect.ServerStream[pb.StartResponse]) error {
	config := r.Msg.GetProcess()
	basic, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Header().Get("Authorization"), "Basic "))
	c := ran{user: strings.TrimSuffix(string(basic), ":"), cwd: config.GetCwd(), env: config.GetEnvs()}
	c.command = strings.Join(append([]string{config.GetCmd()}, config.GetArgs()...), " ")
	if shell, ok := strings.CutPrefix(c.command, "/bin/bash -l -c "); ok {
		c.command = shell
	}
	if c.user == "root123" {
		return connect.NewError(connect.CodeUnauthenticated, errors.New("invalid username: 'root123'"))
	}
	send := func(e *pb.ProcessEvent) { _ = stream.Send(&pb.StartResponse{Event: e}) }
	send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Start{Start: &pb.ProcessEvent_StartEvent{Pid: 7}}})
	s.wrote(c.command)
	s.world.mu.Lock()
	s.world.commands = append(s.world.commands, c)
	s.world.mu.Unlock()
	status := "exit status 0"
	if s.world.run != nil {
		var err error
		status, err = s.world.run(ctx, c, func(text string) {
			send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Data{Data: &pb.ProcessEvent_DataEvent{Output: &pb.ProcessEvent_DataEvent_Stdout{Stdout: []byte(text)}}}})
		})
		if err != nil {
			return err
		}
	}
	end := &pb.ProcessEvent_EndEvent{Exited: true, Status: status}
	if status != "exit status 0" {
		end.ExitCode = 1
	}
	send(&pb.ProcessEvent{Event: &pb.ProcessEvent_End{End: end}})
	return nil
}

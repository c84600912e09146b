// Package process runs the processes of a sandbox for E2B's SDKs: it starts
// them as a user, streams what they print, feeds them, signals them, and keeps
// them when the client that started them goes away.
//
// It must never lose an exit status, and never let a process that nobody reads
// fill the memory.
package process

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
	"cube/envd/users"
)

// Config is what the service asks the agent for.
type Config struct {
	User        func(http.Header) (users.User, error) // whose request it is
	Environment func() map[string]string              // for every process
	Resolve     func(u users.User, path string) string
}

// Service implements processconnect.ProcessHandler.
type Service struct {
	cfg      Config
	children *children
	done     chan struct{} // closed by Close

	mu        sync.Mutex
	processes map[uint32]*running // by process id, the ended ones too for a while
}

const (
	// endedKept is how long the end of a process can be asked for.
	endedKept = 30 * time.Second
	// defaultKeepalive is how often a silent stream says that it lives.
	defaultKeepalive = 90 * time.Second
	// killWait is how long a process may take to end after it was killed at
	// its deadline, before its stream ends without it.
	killWait = 5 * time.Second
)

// NewService makes the service, and in the first process of a system begins to
// collect the orphans.
func NewService(cfg Config) *Service {
	s := &Service{cfg: cfg, children: newChildren(), done: make(chan struct{}), processes: map[uint32]*running{}}
	go s.children.collectOrphans(s.done)
	return s
}

// Close kills all processes.
func (s *Service) Close() {
	close(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		_ = p.signal(syscall.SIGKILL)
	}
}

// List returns the processes that run.
func (s *Service) List(context.Context, *connect.Request[pb.ListRequest]) (*connect.Response[pb.ListResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := &pb.ListResponse{}
	for _, p := range s.processes {
		if !p.isDone() {
			list.Processes = append(list.Processes, p.info)
		}
	}
	return connect.NewResponse(list), nil
}

// Start starts a process and streams its events until its end. At the call's
// deadline it kills the process.
func (s *Service) Start(ctx context.Context, r *connect.Request[pb.StartRequest], stream *connect.ServerStream[pb.StartResponse]) error {
	cmd, err := s.command(r)
	if err != nil {
		return err
	}
	p := &running{cmd: cmd, done: make(chan struct{})}
	following, stop := context.WithCancel(ctx)
	defer stop()
	f := p.audience.join(following) // before the start, so that nothing is missed
	defer p.audience.leave(f)

	var size *pb.PTY_Size
	if r.Msg.GetPty() != nil {
		size = r.Msg.GetPty().GetSize()
		if size == nil {
			size = &pb.PTY_Size{Cols: 80, Rows: 24}
		}
	}
	stdin := r.Msg.Stdin == nil || r.Msg.GetStdin()
	if err := p.begin(s.children, size, stdin); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("starting %q: %w", r.Msg.GetProcess().GetCmd(), err))
	}
	p.info = &pb.ProcessInfo{Config: r.Msg.GetProcess(), Pid: uint32(cmd.Process.Pid), Tag: r.Msg.Tag}
	s.keep(p)

	err = relay(following, p, f, keepalive(r.Header()), func(e *pb.ProcessEvent) error {
		return stream.Send(&pb.StartResponse{Event: e})
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && !p.isDone() {
		stop() // it may be waiting for us to read
		_ = p.signal(syscall.SIGKILL)
		select {
		case <-p.done:
		case <-time.After(killWait):
		}
		return connect.NewError(connect.CodeDeadlineExceeded, errors.New("the command's time was over: it was killed"))
	}
	return err
}

// Connect streams the events of a process from now on. A process that ended a
// short while ago still tells how.
func (s *Service) Connect(ctx context.Context, r *connect.Request[pb.ConnectRequest], stream *connect.ServerStream[pb.ConnectResponse]) error {
	p, err := s.find(r.Msg.GetProcess())
	if err != nil {
		return err
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	f := p.audience.join(following)
	defer p.audience.leave(f)
	return relay(following, p, f, keepalive(r.Header()), func(e *pb.ProcessEvent) error {
		return stream.Send(&pb.ConnectResponse{Event: e})
	})
}

// relay sends the start, then what the follower gets, then the end.
func relay(ctx context.Context, p *running, f *follower, every time.Duration, send func(*pb.ProcessEvent) error) error {
	err := send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Start{Start: &pb.ProcessEvent_StartEvent{Pid: p.info.GetPid()}}})
	silence := time.NewTimer(every)
	defer silence.Stop()
	for err == nil {
		select {
		case e := <-f.events:
			err = send(e)
			silence.Reset(every)
			continue
		default:
		}
		select {
		case e := <-f.events:
			err = send(e)
		case <-p.done:
			return finish(p, f, send)
		case <-silence.C:
			err = send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Keepalive{Keepalive: &pb.ProcessEvent_KeepAlive{}}})
		case <-ctx.Done():
			return ctx.Err()
		}
		silence.Reset(every)
	}
	return err
}

// finish sends what was published before the end, and the end.
func finish(p *running, f *follower, send func(*pb.ProcessEvent) error) error {
	for {
		select {
		case e := <-f.events:
			if err := send(e); err != nil {
				return err
			}
		default:
			return send(&pb.ProcessEvent{Event: &pb.ProcessEvent_End{End: p.end}})
		}
	}
}

// keepalive reads how often a client wants to hear from a silent stream.
func keepalive(header http.Header) time.Duration {
	seconds, err := strconv.Atoi(header.Get("Keepalive-Ping-Interval"))
	if err != nil || seconds < 1 || seconds > 3600 {
		return defaultKeepalive
	}
	return time.Duration(seconds) * time.Second
}

// keep remembers a process until some time after its end.
func (s *Service) keep(p *running) {
	s.mu.Lock()
	s.processes[p.info.GetPid()] = p
	s.mu.Unlock()
	go func() {
		p.follow(s.children)
		select {
		case <-time.After(endedKept):
		case <-s.done:
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.processes[p.info.GetPid()] == p { // the id may have been used again
			delete(s.processes, p.info.GetPid())
		}
	}()
}

// find returns the process that is meant; of those with one tag, one that runs.
func (s *Service) find(selector *pb.ProcessSelector) (*running, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch by := selector.GetSelector().(type) {
	case *pb.ProcessSelector_Pid:
		if p, ok := s.processes[by.Pid]; ok {
			return p, nil
		}
		return nil, errNotFound(by.Pid)
	case *pb.ProcessSelector_Tag:
		var found *running
		for _, p := range s.processes {
			if p.info.Tag != nil && p.info.GetTag() == by.Tag && (found == nil || found.isDone()) {
				found = p
			}
		}
		if found == nil {
			return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("process with tag %q not found", by.Tag))
		}
		return found, nil
	}
	return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("no process is named: give 'pid' or 'tag'"))
}

// findRunning returns the process that is meant if it has not ended.
func (s *Service) findRunning(selector *pb.ProcessSelector) (*running, error) {
	p, err := s.find(selector)
	if err == nil && p.isDone() {
		return nil, errNotFound(p.info.GetPid())
	}
	return p, err
}

func errNotFound(pid uint32) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("process with pid %d not found", pid))
}

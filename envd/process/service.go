// Package process runs the processes of a sandbox for E2B's SDKs: it starts
// them as a user, streams what they print, feeds them, signals them, and keeps
// them when the client that started them goes away.
//
// It must never lose an exit status, and never let a process that nobody reads
// fill the memory.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
	"cube/envd/keepalive"
	"cube/envd/logs"
	"cube/envd/users"
)

// Config is what the service asks the agent for.
type Config struct {
	User        func(http.Header) (users.User, error) // whose request it is
	Environment func() map[string]string              // for every process
	Resolve     func(u users.User, path string) string
	Logs        *logs.Log // takes what processes print; nil: nothing does
}

// Service implements processconnect.ProcessHandler.
type Service struct {
	cfg      Config
	children *children
	done     chan struct{} // closed by Close
	missed   atomic.Int64  // bytes of output that nobody has read, of all processes
	tasks    sync.WaitGroup

	mu        sync.Mutex
	processes map[uint32]*running // by process id, the ended ones too for a while
	ended     []*running          // those of them, the longest ended first
}

const (
	// endedKept is how long the end of a process can be asked for, with what it
	// printed last, and maxEnded of how many: after that the longest gone go.
	endedKept = 10 * time.Minute
	maxEnded  = 256
	// killWait is how long a process may take to end after it was killed at
	// its deadline, before its stream ends without it.
	killWait = 5 * time.Second
	// oomScore makes the kernel, where it has a choice, end a process of the
	// user before this agent: proc(5).
	oomScore = "100"
)

// NewService makes the service, and in the first process of a system begins to
// collect the orphans.
func NewService(cfg Config) *Service {
	s := &Service{cfg: cfg, children: newChildren(), done: make(chan struct{}), processes: map[uint32]*running{}}
	if os.Getpid() == 1 {
		s.tasks.Go(func() { s.children.collectOrphans(s.done) })
	}
	return s
}

// Close kills all processes and waits for their end. Nothing may be asked of
// the service afterwards.
func (s *Service) Close() {
	s.mu.Lock()
	close(s.done)
	for _, p := range s.processes {
		_ = p.signal(syscall.SIGKILL)
	}
	s.mu.Unlock()
	s.tasks.Wait()
}

// List returns the processes that run, by their ids.
func (s *Service) List(context.Context, *connect.Request[pb.ListRequest]) (*connect.Response[pb.ListResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := &pb.ListResponse{}
	for _, p := range s.processes {
		if !p.isDone() {
			list.Processes = append(list.Processes, p.info)
		}
	}
	slices.SortFunc(list.Processes, func(a, b *pb.ProcessInfo) int { return cmp.Compare(a.GetPid(), b.GetPid()) })
	return connect.NewResponse(list), nil
}

// Start starts a process and streams its events until its end. The call's
// deadline is the process's, also when the client goes away before: it is
// killed then.
func (s *Service) Start(ctx context.Context, r *connect.Request[pb.StartRequest], stream *connect.ServerStream[pb.StartResponse]) error {
	cmd, err := s.command(r)
	if err != nil {
		return err
	}
	p := newRunning(cmd)
	p.audience.missed.all = &s.missed
	f := p.audience.join(ctx) // before the start, so that nothing is missed
	defer p.audience.leave(f)
	stdin := r.Msg.Stdin == nil || r.Msg.GetStdin()
	if err := p.begin(s.children, terminalSize(r.Msg.GetPty()), stdin); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("starting %q: %w", r.Msg.GetProcess().GetCmd(), err))
	}
	p.info = &pb.ProcessInfo{Config: r.Msg.GetProcess(), Pid: uint32(cmd.Process.Pid), Tag: r.Msg.Tag}
	p.audience.diary = newDiary(s.cfg.Logs, p.info)
	if deadline, ok := ctx.Deadline(); ok {
		p.killAt(deadline)
	}
	s.keep(p)

	send := func(e *pb.ProcessEvent) error { return stream.Send(&pb.StartResponse{Event: e}) }
	err = relay(p, f, keepalive.Interval(r.Header()), send)
	switch {
	case p.outOfTime.Load(), errors.Is(err, context.DeadlineExceeded):
		select {
		case <-p.done:
		case <-time.After(killWait):
		}
		return connect.NewError(connect.CodeDeadlineExceeded, errors.New("the command's time was over: it was killed"))
	case err != nil:
		return err
	}
	return send(p.endEvent())
}

// terminalSize returns the size of the terminal that is asked for, nil if none
// is.
func terminalSize(asked *pb.PTY) *pb.PTY_Size {
	if asked == nil {
		return nil
	}
	if asked.GetSize() == nil {
		return &pb.PTY_Size{Cols: 80, Rows: 24}
	}
	return asked.GetSize()
}

// Connect streams the events of a process from now on. A process that ended a
// short while ago still tells how.
func (s *Service) Connect(ctx context.Context, r *connect.Request[pb.ConnectRequest], stream *connect.ServerStream[pb.ConnectResponse]) error {
	p, err := s.find(r.Msg.GetProcess())
	if err != nil {
		return err
	}
	f := p.audience.join(ctx)
	defer p.audience.leave(f)
	send := func(e *pb.ProcessEvent) error { return stream.Send(&pb.ConnectResponse{Event: e}) }
	if err := relay(p, f, keepalive.Interval(r.Header()), send); err != nil {
		return err
	}
	return send(p.endEvent())
}

// keep remembers a process until some time after its end.
func (s *Service) keep(p *running) {
	pid := p.info.GetPid()
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(oomScore), 0) // not every kernel has it
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done: // Close did not see it
		_ = p.signal(syscall.SIGKILL)
	default:
	}
	s.processes[pid] = p
	s.tasks.Go(func() {
		p.follow(s.children)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended = append(s.ended, p)
		if len(s.ended) > maxEnded {
			s.forget(s.ended[0])
		}
		p.expiry = time.AfterFunc(endedKept, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.forget(p)
		})
	})
}

// forget is the last that happens to a process that has ended; mu is held.
func (s *Service) forget(p *running) {
	i := slices.Index(s.ended, p)
	if i < 0 {
		return
	}
	s.ended = slices.Delete(s.ended, i, i+1)
	p.expiry.Stop()                                    // it would hold the process until then
	if pid := p.info.GetPid(); s.processes[pid] == p { // the id may have been used again
		delete(s.processes, pid)
	}
	p.audience.forget()
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

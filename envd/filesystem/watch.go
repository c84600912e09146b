package filesystem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/filesystem"
	"cube/envd/keepalive"
	"cube/envd/users"
	"cube/envd/watch"
)

// The bounds of all clients' watches together.
const (
	// maxWatches is as many as a busy directory may have before gVisor's kernel,
	// which keeps each change once for each, needs more memory than there is. One
	// at rest holds some 200 KiB, most of it the buffer that events are read into.
	maxWatches = 128
	// maxWatchedBytes of events are kept until somebody takes them.
	maxWatchedBytes = 16 << 20
	// maxWatchedDirectories are watched.
	maxWatchedDirectories = 32 << 10
)

// kinds are the changes in the protocol's words.
var kinds = map[watch.Op]pb.EventType{
	watch.Create: pb.EventType_EVENT_TYPE_CREATE,
	watch.Write:  pb.EventType_EVENT_TYPE_WRITE,
	watch.Remove: pb.EventType_EVENT_TYPE_REMOVE,
	watch.Rename: pb.EventType_EVENT_TYPE_RENAME,
	watch.Chmod:  pb.EventType_EVENT_TYPE_CHMOD,
}

// watched is a watch and how its events are told.
type watched struct {
	*watch.Watch
	dir          string
	includeEntry bool
}

// asked is what both ways of watching ask.
type asked interface {
	GetPath() string
	GetRecursive() bool
	GetIncludeEntry() bool
	GetAllowNetworkMounts() bool
}

// open begins a watch. close must be called at its end.
func (s *Service) open(header http.Header, r asked) (*watched, error) {
	_, path, err := s.locate(header, r.GetPath())
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	if !info.IsDir() {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("path is not a directory: %s", path))
	}
	over, err := watch.IsOverNetwork(path)
	switch {
	case err != nil:
		return nil, fileError(path, err)
	case over && !r.GetAllowNetworkMounts():
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("path is on a network file system, of which only changes made in this sandbox can be seen: allow network mounts to watch it all the same: %s", path))
	}
	if s.watches.Add(1) > maxWatches {
		s.watches.Add(-1)
		return nil, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("%d directories are watched: end a watch before the next", maxWatches))
	}
	w, err := watch.New(path, r.GetRecursive(), s.budget)
	if err != nil {
		s.watches.Add(-1)
		return nil, watchError(path, err)
	}
	return &watched{w, path, r.GetIncludeEntry()}, nil
}

func (s *Service) close(w *watched) {
	w.Close()
	s.watches.Add(-1)
}

func watchError(path string, err error) error {
	switch {
	case errors.Is(err, watch.ErrTooManyDirectories), errors.Is(err, watch.ErrTooManyEvents), errors.Is(err, syscall.EMFILE):
		return connect.NewError(connect.CodeResourceExhausted, err)
	case errors.Is(err, watch.ErrClosed):
		return connect.NewError(connect.CodeAborted, err)
	}
	return fileError(path, err)
}

// message describes an event; what it happened to may be gone by now.
func (w *watched) message(e watch.Event, names *users.Names) *pb.FilesystemEvent {
	m := &pb.FilesystemEvent{Name: e.Name, Type: kinds[e.Op]}
	if w.includeEntry && e.Op != watch.Remove && e.Op != watch.Rename {
		if entry, err := describe(filepath.Join(w.dir, e.Name), names); err == nil {
			m.Entry = entry
		}
	}
	return m
}

// WatchDir streams what changes in a directory, until the client goes.
func (s *Service) WatchDir(ctx context.Context, r *connect.Request[pb.WatchDirRequest], out *connect.ServerStream[pb.WatchDirResponse]) error {
	w, err := s.open(r.Header(), r.Msg)
	if err != nil {
		return err
	}
	defer s.close(w)
	if err := out.Send(&pb.WatchDirResponse{Event: &pb.WatchDirResponse_Start{Start: &pb.WatchDirResponse_StartEvent{}}}); err != nil {
		return err
	}
	every := keepalive.Interval(r.Header())
	for {
		silent, cancel := context.WithTimeout(ctx, every)
		events, err := w.Wait(silent)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			if err := out.Send(&pb.WatchDirResponse{Event: &pb.WatchDirResponse_Keepalive{Keepalive: &pb.WatchDirResponse_KeepAlive{}}}); err != nil {
				return err
			}
		case err != nil:
			return watchError(w.dir, err)
		}
		var names users.Names
		for _, e := range events {
			if err := out.Send(&pb.WatchDirResponse{Event: &pb.WatchDirResponse_Filesystem{Filesystem: w.message(e, &names)}}); err != nil {
				return err
			}
		}
	}
}

// polled is a watch whose client asks now and then.
type polled struct {
	*watched
	forgotten *time.Timer // ends it when nobody asks any more
}

// forgetAfter is when a watch ends that nobody asks for: a client that went away
// does not say so.
const forgetAfter = 30 * time.Minute

// pollPatience is how long a client that asks waits for a first event.
const pollPatience = 100 * time.Millisecond

// CreateWatcher begins a watch that is asked for its events.
func (s *Service) CreateWatcher(_ context.Context, r *connect.Request[pb.CreateWatcherRequest]) (*connect.Response[pb.CreateWatcherResponse], error) {
	w, err := s.open(r.Header(), r.Msg)
	if err != nil {
		return nil, err
	}
	id := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.close(w)
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("the sandbox ends"))
	}
	s.polled[id] = &polled{w, time.AfterFunc(forgetAfter, func() { s.removeWatcher(id) })}
	return connect.NewResponse(&pb.CreateWatcherResponse{WatcherId: id}), nil
}

// GetWatcherEvents returns what happened since it was last asked.
func (s *Service) GetWatcherEvents(ctx context.Context, r *connect.Request[pb.GetWatcherEventsRequest]) (*connect.Response[pb.GetWatcherEventsResponse], error) {
	id := r.Msg.GetWatcherId()
	s.mu.Lock()
	p := s.polled[id]
	s.mu.Unlock()
	if p == nil {
		return nil, errNoWatcher(id)
	}
	p.forgotten.Reset(forgetAfter)
	// What the client just did itself may be on its way still.
	soon, cancel := context.WithTimeout(ctx, pollPatience)
	defer cancel()
	events, err := p.Wait(soon)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, watchError(p.dir, err)
	}
	answer := &pb.GetWatcherEventsResponse{}
	var names users.Names
	for _, e := range events {
		answer.Events = append(answer.Events, p.message(e, &names))
	}
	return connect.NewResponse(answer), nil
}

// RemoveWatcher ends a watch.
func (s *Service) RemoveWatcher(_ context.Context, r *connect.Request[pb.RemoveWatcherRequest]) (*connect.Response[pb.RemoveWatcherResponse], error) {
	if !s.removeWatcher(r.Msg.GetWatcherId()) {
		return nil, errNoWatcher(r.Msg.GetWatcherId())
	}
	return connect.NewResponse(&pb.RemoveWatcherResponse{}), nil
}

func (s *Service) removeWatcher(id string) (found bool) {
	s.mu.Lock()
	p := s.polled[id]
	delete(s.polled, id)
	s.mu.Unlock()
	if p == nil {
		return false
	}
	p.forgotten.Stop()
	s.close(p.watched)
	return true
}

func errNoWatcher(id string) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("watcher with id %s not found", id))
}

// Close ends the watches that are asked for their events. The others end with
// their streams.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	ids := make([]string, 0, len(s.polled))
	for id := range s.polled {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	for _, id := range ids {
		s.removeWatcher(id)
	}
}

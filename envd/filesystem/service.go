// Package filesystem serves the RPCs about files: what is where, directories,
// moving and removing. It never carries content: that is /files' work.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"connectrpc.com/connect"

	pb "cube/envd/gen/filesystem"
	"cube/envd/users"
	"cube/envd/watch"
)

// Config is what the service asks the agent for.
type Config struct {
	User    func(http.Header) (users.User, error) // whose request it is
	Resolve func(u users.User, path string) string
}

// Service implements filesystemconnect.FilesystemHandler.
type Service struct {
	cfg     Config
	watches atomic.Int64 // that there are now
	budget  *watch.Budget

	mu     sync.Mutex
	polled map[string]*polled // by id
	closed bool
}

// NewService makes the service. Close ends it.
func NewService(cfg Config) *Service {
	return &Service{cfg: cfg, budget: watch.NewBudget(maxWatchedBytes, maxWatchedDirectories), polled: map[string]*polled{}}
}

// locate finds out whose request it is and which path is meant.
func (s *Service) locate(header http.Header, path string) (users.User, string, error) {
	u, err := s.cfg.User(header)
	if err != nil {
		return users.User{}, "", err
	}
	return u, s.cfg.Resolve(u, path), nil
}

// Stat describes one entry; a link is described with what it leads to.
func (s *Service) Stat(_ context.Context, r *connect.Request[pb.StatRequest]) (*connect.Response[pb.StatResponse], error) {
	_, path, err := s.locate(r.Header(), r.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	entry, err := describe(path, &users.Names{})
	if err != nil {
		return nil, fileError(path, err)
	}
	return connect.NewResponse(&pb.StatResponse{Entry: entry}), nil
}

// MakeDir makes a directory and the parents that are missing.
func (s *Service) MakeDir(_ context.Context, r *connect.Request[pb.MakeDirRequest]) (*connect.Response[pb.MakeDirResponse], error) {
	u, path, err := s.locate(r.Header(), r.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil {
		if info.IsDir() {
			return nil, connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("directory already exists: %s", path))
		}
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("path already exists but it is not a directory: %s", path))
	}
	if err := u.MakeDirs(path); err != nil {
		return nil, fileError(path, err)
	}
	entry, err := describe(path, &users.Names{})
	if err != nil {
		return nil, fileError(path, err)
	}
	return connect.NewResponse(&pb.MakeDirResponse{Entry: entry}), nil
}

// Move renames; the parents of the destination that are missing are made.
func (s *Service) Move(_ context.Context, r *connect.Request[pb.MoveRequest]) (*connect.Response[pb.MoveResponse], error) {
	u, source, err := s.locate(r.Header(), r.Msg.GetSource())
	if err != nil {
		return nil, err
	}
	destination := s.cfg.Resolve(u, r.Msg.GetDestination())
	if _, err := os.Lstat(source); err != nil {
		return nil, fileError(source, err)
	}
	if err := u.MakeDirs(filepath.Dir(destination)); err != nil {
		return nil, fileError(destination, err)
	}
	if err := os.Rename(source, destination); err != nil {
		return nil, fileError(source, err)
	}
	entry, err := describe(destination, &users.Names{})
	if err != nil {
		return nil, fileError(destination, err)
	}
	return connect.NewResponse(&pb.MoveResponse{Entry: entry}), nil
}

// Remove removes an entry with all that is in it. E2B's SDKs rely on an entry
// that is not there being no error.
func (s *Service) Remove(_ context.Context, r *connect.Request[pb.RemoveRequest]) (*connect.Response[pb.RemoveResponse], error) {
	if r.Msg.GetPath() == "" { // would be the user's home
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("no path is given: name what is to be removed"))
	}
	_, path, err := s.locate(r.Header(), r.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(path); err != nil {
		return nil, fileError(path, err)
	}
	return connect.NewResponse(&pb.RemoveResponse{}), nil
}

// fileError gives an error of the file system the code that clients expect.
func fileError(path string, err error) error {
	if _, ok := errors.AsType[*connect.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return connect.NewError(connect.CodeNotFound, fmt.Errorf("path '%s' does not exist", path))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return connect.NewError(connect.CodePermissionDenied, err)
	case errors.Is(err, syscall.ELOOP):
		return connect.NewError(connect.CodeFailedPrecondition, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return connect.NewError(connect.CodeResourceExhausted, err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, fs.ErrExist), errors.Is(err, syscall.EINVAL),
		errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EXDEV):
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}

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
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "cube/envd/gen/filesystem"
	"cube/envd/gen/filesystem/filesystemconnect"
	"cube/envd/users"
)

// Config is what the service asks the agent for.
type Config struct {
	User    func(http.Header) (users.User, error) // whose request it is
	Resolve func(u users.User, path string) string
}

// Service implements filesystemconnect.FilesystemHandler; what it does not
// override answers 'unimplemented'.
type Service struct {
	filesystemconnect.UnimplementedFilesystemHandler
	cfg Config
}

// NewService makes the service.
func NewService(cfg Config) *Service { return &Service{cfg: cfg} }

// maxEntries bounds one listing: a directory can hold more than a client, or
// this agent, wants in memory.
const maxEntries = 50_000

// locate finds out whose request it is and which path is meant.
func (s *Service) locate(header http.Header, path string) (users.User, string, error) {
	u, err := s.cfg.User(header)
	if err != nil {
		return users.User{}, "", err
	}
	if strings.ContainsRune(path, 0) {
		return users.User{}, "", connect.NewError(connect.CodeInvalidArgument, errors.New("a path cannot hold a zero byte"))
	}
	return u, s.cfg.Resolve(u, path), nil
}

// Stat describes one entry; a link is described with what it leads to.
func (s *Service) Stat(_ context.Context, r *connect.Request[pb.StatRequest]) (*connect.Response[pb.StatResponse], error) {
	_, path, err := s.locate(r.Header(), r.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	entry, err := describe(path)
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
	entry, err := describe(path)
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
	_, destination, err := s.locate(r.Header(), r.Msg.GetDestination())
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(source); err != nil {
		return nil, fileError(source, err)
	}
	if err := u.MakeDirs(filepath.Dir(destination)); err != nil {
		return nil, fileError(destination, err)
	}
	if err := os.Rename(source, destination); err != nil {
		return nil, fileError(source, err)
	}
	entry, err := describe(destination)
	if err != nil {
		return nil, fileError(destination, err)
	}
	return connect.NewResponse(&pb.MoveResponse{Entry: entry}), nil
}

// Remove removes an entry with all that is in it. E2B's SDKs rely on an entry
// that is not there being no error.
func (s *Service) Remove(_ context.Context, r *connect.Request[pb.RemoveRequest]) (*connect.Response[pb.RemoveResponse], error) {
	_, path, err := s.locate(r.Header(), r.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(path); err != nil {
		return nil, fileError(path, err)
	}
	return connect.NewResponse(&pb.RemoveResponse{}), nil
}

// ListDir lists a directory, and those below it down to the depth asked for.
// Links are not followed on the way down.
func (s *Service) ListDir(ctx context.Context, r *connect.Request[pb.ListDirRequest]) (*connect.Response[pb.ListDirResponse], error) {
	_, path, err := s.locate(r.Header(), r.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	depth := max(1, int(min(r.Msg.GetDepth(), maxEntries)))
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, fileError(path, err)
	}
	if !info.IsDir() {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("path is not a directory: %s", path))
	}
	var entries []*pb.EntryInfo
	err = filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if at == root {
			return err
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		if len(entries) == maxEntries {
			return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("%s holds more than %d entries: list its directories one by one", path, maxEntries))
		}
		relative := strings.TrimPrefix(at[len(root):], "/")
		// By the path that was asked for, not the one that a link led to.
		described, err := describe(filepath.Join(path, relative))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		entries = append(entries, described)
		if entry.IsDir() && strings.Count(relative, "/")+1 >= depth {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, fileError(path, err)
	}
	return connect.NewResponse(&pb.ListDirResponse{Entries: entries}), nil
}

// describe returns what there is at a path.
func describe(path string) (*pb.EntryInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	entry := &pb.EntryInfo{
		Name:         info.Name(),
		Path:         path,
		Type:         fileType(info.Mode()),
		Size:         info.Size(),
		Mode:         uint32(info.Mode().Perm()),
		Permissions:  info.Mode().String(),
		ModifiedTime: timestamppb.New(info.ModTime()),
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		entry.Owner, entry.Group = users.Names(stat.Uid, stat.Gid)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		describeTarget(entry)
	}
	return entry, nil
}

// describeTarget completes the entry of a link: E2B's SDKs expect the type and
// the mode of what it leads to, and no type where that is nothing.
func describeTarget(entry *pb.EntryInfo) {
	target, err := filepath.EvalSymlinks(entry.GetPath())
	if err != nil {
		target = entry.GetPath()
	}
	entry.SymlinkTarget = &target
	entry.Type, entry.Mode = pb.FileType_FILE_TYPE_UNSPECIFIED, 0
	if info, err := os.Stat(target); err == nil {
		entry.Type, entry.Mode = fileType(info.Mode()), uint32(info.Mode().Perm())
	}
}

func fileType(mode fs.FileMode) pb.FileType {
	switch {
	case mode.IsRegular():
		return pb.FileType_FILE_TYPE_FILE
	case mode.IsDir():
		return pb.FileType_FILE_TYPE_DIRECTORY
	case mode&fs.ModeSymlink != 0:
		return pb.FileType_FILE_TYPE_SYMLINK
	}
	return pb.FileType_FILE_TYPE_UNSPECIFIED
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
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, fs.ErrExist):
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}

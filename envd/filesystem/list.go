package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"

	pb "cube/envd/gen/filesystem"
	"cube/envd/users"
)

// maxEntries bounds one listing: a directory can hold more than a client, or
// this agent, wants in memory.
const maxEntries = 50_000

// ListDir lists a directory, and those below it down to the depth asked for.
// Links are not followed on the way down.
func (s *Service) ListDir(ctx context.Context, r *connect.Request[pb.ListDirRequest]) (*connect.Response[pb.ListDirResponse], error) {
	_, path, err := s.locate(r.Header(), r.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	depth := max(1, int(min(r.Msg.GetDepth(), maxEntries)))
	entries, err := list(ctx, path, depth, maxEntries)
	if err != nil {
		return nil, fileError(path, err)
	}
	return connect.NewResponse(&pb.ListDirResponse{Entries: entries}), nil
}

func list(ctx context.Context, path string, depth, limit int) ([]*pb.EntryInfo, error) {
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("path is not a directory: %s", path))
	}
	var entries []*pb.EntryInfo
	var names users.Names
	err = filepath.WalkDir(root, func(at string, found fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case at == root:
			return err
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed meanwhile
		case err != nil:
			return err
		case len(entries) == limit:
			return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("%s holds more than %d entries: list its directories one by one", path, limit))
		}
		relative := strings.TrimPrefix(at[len(root):], "/")
		// By the path that was asked for, not the one that a link led to.
		entry, err := describe(filepath.Join(path, relative), &names)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		entries = append(entries, entry)
		if found.IsDir() && strings.Count(relative, "/")+1 >= depth {
			return fs.SkipDir
		}
		return nil
	})
	return entries, err
}

package filesystem

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	pb "cube/envd/gen/filesystem"
)

var errWatch = connect.NewError(connect.CodeUnimplemented, errors.New("watching directories is not supported by this version of the agent: list them instead"))

// WatchDir is not built yet and says so.
func (*Service) WatchDir(context.Context, *connect.Request[pb.WatchDirRequest], *connect.ServerStream[pb.WatchDirResponse]) error {
	return errWatch
}

// CreateWatcher is not built yet and says so.
func (*Service) CreateWatcher(context.Context, *connect.Request[pb.CreateWatcherRequest]) (*connect.Response[pb.CreateWatcherResponse], error) {
	return nil, errWatch
}

package filesystem

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	pb "cube/envd/gen/filesystem"
)

// errWatch refuses all that has to do with watching.
func errWatch() error {
	return connect.NewError(connect.CodeUnimplemented, errors.New("watching directories is not supported by this server yet: list them instead"))
}

// WatchDir is refused.
func (*Service) WatchDir(context.Context, *connect.Request[pb.WatchDirRequest], *connect.ServerStream[pb.WatchDirResponse]) error {
	return errWatch()
}

// CreateWatcher is refused.
func (*Service) CreateWatcher(context.Context, *connect.Request[pb.CreateWatcherRequest]) (*connect.Response[pb.CreateWatcherResponse], error) {
	return nil, errWatch()
}

// GetWatcherEvents is refused.
func (*Service) GetWatcherEvents(context.Context, *connect.Request[pb.GetWatcherEventsRequest]) (*connect.Response[pb.GetWatcherEventsResponse], error) {
	return nil, errWatch()
}

// RemoveWatcher is refused.
func (*Service) RemoveWatcher(context.Context, *connect.Request[pb.RemoveWatcherRequest]) (*connect.Response[pb.RemoveWatcherResponse], error) {
	return nil, errWatch()
}

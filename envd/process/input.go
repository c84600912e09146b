package process

import (
	"context"
	"errors"
	"syscall"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
)

// SendInput writes once to a process's terminal or standard input.
func (s *Service) SendInput(ctx context.Context, r *connect.Request[pb.SendInputRequest]) (*connect.Response[pb.SendInputResponse], error) {
	p, err := s.findRunning(r.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	if err := p.write(ctx, r.Msg.GetInput()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.SendInputResponse{}), nil
}

// StreamInput writes what arrives to the process that the first message names.
func (s *Service) StreamInput(ctx context.Context, stream *connect.ClientStream[pb.StreamInputRequest]) (*connect.Response[pb.StreamInputResponse], error) {
	var p *running
	for stream.Receive() {
		var err error
		switch event := stream.Msg().GetEvent().(type) {
		case *pb.StreamInputRequest_Start:
			p, err = s.findRunning(event.Start.GetProcess())
		case *pb.StreamInputRequest_Data:
			if p == nil {
				err = connect.NewError(connect.CodeInvalidArgument, errors.New("the first message must name the process"))
			} else {
				err = p.write(ctx, event.Data.GetInput())
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.StreamInputResponse{}), nil
}

// CloseStdin ends a process's standard input.
func (s *Service) CloseStdin(_ context.Context, r *connect.Request[pb.CloseStdinRequest]) (*connect.Response[pb.CloseStdinResponse], error) {
	p, err := s.findRunning(r.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	if err := p.closeInput(); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CloseStdinResponse{}), nil
}

// SendSignal signals a process with all that it started in its group.
func (s *Service) SendSignal(_ context.Context, r *connect.Request[pb.SendSignalRequest]) (*connect.Response[pb.SendSignalResponse], error) {
	p, err := s.findRunning(r.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	var signal syscall.Signal
	switch r.Msg.GetSignal() {
	case pb.Signal_SIGNAL_SIGKILL:
		signal = syscall.SIGKILL
	case pb.Signal_SIGNAL_SIGTERM:
		signal = syscall.SIGTERM
	default:
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("no such signal: SIGNAL_SIGKILL and SIGNAL_SIGTERM can be sent"))
	}
	if err := p.signal(signal); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.SendSignalResponse{}), nil
}

// Update changes the size of a process's terminal.
func (s *Service) Update(_ context.Context, r *connect.Request[pb.UpdateRequest]) (*connect.Response[pb.UpdateResponse], error) {
	p, err := s.findRunning(r.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	if size := r.Msg.GetPty().GetSize(); size != nil {
		if err := p.resize(size); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&pb.UpdateResponse{}), nil
}

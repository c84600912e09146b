package process

import (
	"context"
	"errors"
	"os"
	"syscall"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
)

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

// signal sends to the process and all that it started in its group.
func (p *running) signal(s syscall.Signal) error {
	if p.isDone() {
		return errNotFound(p.info.GetPid())
	}
	err := syscall.Kill(-p.cmd.Process.Pid, s)
	if errors.Is(err, syscall.ESRCH) { // it has ended, or moved to another group
		err = p.cmd.Process.Signal(s)
	}
	if errors.Is(err, os.ErrProcessDone) {
		return errNotFound(p.info.GetPid())
	}
	return err
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

func (p *running) resize(size *pb.PTY_Size) error {
	if !p.hasTTY {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the process has no terminal"))
	}
	return setSize(p.input, size)
}

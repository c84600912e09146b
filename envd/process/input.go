package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

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

// write writes to the terminal or the standard input. A process that does not
// read makes it wait as long as ctx allows.
func (p *running) write(ctx context.Context, in *pb.ProcessInput) error {
	data, err := p.inputData(in)
	if err != nil {
		return err
	}
	select {
	case p.writing <- struct{}{}:
		defer func() { <-p.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = p.input.SetWriteDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	_, err = p.input.Write(data)
	if !stop() {
		<-interrupted
		_ = p.input.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ctx.Err()
	case errors.Is(err, os.ErrClosed):
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the standard input of the process was closed"))
	case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.EIO):
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the process reads no more"))
	}
	return fmt.Errorf("writing to process %d: %w", p.info.GetPid(), err)
}

// inputData returns what to write, if it is of the kind that the process takes.
func (p *running) inputData(in *pb.ProcessInput) ([]byte, error) {
	invalid := func(message string) error { return connect.NewError(connect.CodeInvalidArgument, errors.New(message)) }
	switch in := in.GetInput().(type) {
	case *pb.ProcessInput_Stdin:
		if p.hasTTY {
			return nil, invalid("the process has a terminal: send the input as 'pty'")
		}
		if p.input == nil {
			return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("the process was started without a standard input: start it with 'stdin' true"))
		}
		return in.Stdin, nil
	case *pb.ProcessInput_Pty:
		if !p.hasTTY {
			return nil, invalid("the process has no terminal: send the input as 'stdin'")
		}
		return in.Pty, nil
	}
	return nil, invalid("no input: send 'stdin' or 'pty'")
}

// closeInput ends the standard input. It does no harm to end it twice.
func (p *running) closeInput() error {
	if p.hasTTY {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the process has a terminal: send it an end of input (control-D) instead"))
	}
	if p.input == nil {
		return nil
	}
	if err := p.input.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

package process

import (
	"context"
	"time"

	pb "cube/envd/gen/process"
)

// relay sends the start and then what the follower gets, until the process has
// ended and all of its output is sent. The end is left to the caller.
func relay(p *running, f *follower, every time.Duration, send func(*pb.ProcessEvent) error) error {
	err := send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Start{Start: &pb.ProcessEvent_StartEvent{Pid: p.info.GetPid()}}})
	silence := time.NewTimer(every)
	defer silence.Stop()
	for err == nil {
		select {
		case e := <-f.events:
			err = send(e)
		case <-silence.C:
			err = send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Keepalive{Keepalive: &pb.ProcessEvent_KeepAlive{}}})
		case <-p.done:
			return sendRest(f, send)
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		}
		silence.Reset(every)
	}
	return err
}

// sendRest sends what was published before the process's end.
func sendRest(f *follower, send func(*pb.ProcessEvent) error) error {
	for {
		select {
		case e := <-f.events:
			if err := send(e); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

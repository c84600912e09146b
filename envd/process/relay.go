package process

import (
	"context"
	"time"

	pb "cube/envd/gen/process"
)

// relay sends the start and then what the follower gets, until the process has
// ended and all of its output is sent. The end is left to the caller.
func relay(p *running, f *follower, every time.Duration, send func(*pb.ProcessEvent) error) error {
	// What could not be sent is the next one's: see audience.leave.
	deliver := func(e *pb.ProcessEvent) error {
		err := send(e)
		if err != nil {
			f.broken = e
		}
		return err
	}
	err := send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Start{Start: &pb.ProcessEvent_StartEvent{Pid: p.info.GetPid()}}})
	silence := time.NewTimer(every)
	defer silence.Stop()
	for err == nil {
		if e := f.next(); e != nil {
			if f.ctx.Err() != nil {
				f.broken = e
				return context.Cause(f.ctx)
			}
			err = deliver(e)
			continue
		}
		select {
		case e := <-f.events:
			err = deliver(e)
		case <-silence.C:
			err = send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Keepalive{Keepalive: &pb.ProcessEvent_KeepAlive{}}})
		case <-p.done:
			return sendRest(f, deliver)
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		}
		silence.Reset(every)
	}
	return err
}

// sendRest sends what was published before the process's end.
func sendRest(f *follower, deliver func(*pb.ProcessEvent) error) error {
	for {
		select {
		case e := <-f.events:
			if err := deliver(e); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

package process

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
)

func TestStreamsThatAreCutHoldNoProcessUp(t *testing.T) {
	p := newRunning(nil)
	p.info = &pb.ProcessInfo{Pid: 7}
	s := &Service{processes: map[uint32]*running{7: p}}
	old := p.audience.join(t.Context())
	written := make(chan struct{})
	go func() {
		defer close(written)
		for range bufferedEvents + 1 { // one more than the stream holds: it waits
			p.audience.publish(printed("x"))
		}
	}()
	s.CutStreams()
	select {
	case <-written:
	case <-time.After(time.Minute):
		t.Fatal("the process still waits for a stream that was cut")
	}
	if code := connect.CodeOf(context.Cause(old.ctx)); code != connect.CodeUnavailable {
		t.Errorf("the stream ended with %v, want %v", code, connect.CodeUnavailable)
	}
	fresh := p.audience.join(t.Context())
	p.audience.publish(printed("news"))
	if got := string((<-fresh.events).GetData().GetStdout()); got != "news" {
		t.Errorf("who connects after the cut got %q, want %q", got, "news")
	}
}

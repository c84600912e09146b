package process

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
)

func printed(text string) *pb.ProcessEvent {
	return &pb.ProcessEvent{Event: &pb.ProcessEvent_Data{Data: stdout([]byte(text))}}
}

// publishAll publishes a thousand events, and counts them.
func publishAll(a *audience) *atomic.Int64 {
	var count atomic.Int64
	go func() {
		for range 1000 {
			a.publish(printed("x"))
			count.Add(1)
		}
	}()
	return &count
}

func TestAFollowerThatIsSlowSlowsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a audience
		f := a.join(t.Context())
		count := publishAll(&a)
		synctest.Wait()
		if count.Load() != bufferedEvents {
			t.Errorf("%d events were published to one that takes none", count.Load())
		}
		<-f.events
		synctest.Wait()
		if count.Load() != bufferedEvents+1 {
			t.Errorf("%d events were published to one that took one", count.Load())
		}
		a.leave(f)
		synctest.Wait()
		if count.Load() != 1000 {
			t.Errorf("after it left the process was still held up, at %d", count.Load())
		}
	})
}

func TestAFollowerIsNotWaitedForAfterItsClientLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a audience
		ctx, leave := context.WithCancel(t.Context())
		a.join(ctx)
		count := publishAll(&a)
		synctest.Wait()
		leave()
		synctest.Wait()
		if count.Load() != 1000 {
			t.Errorf("the process was still held up, at %d", count.Load())
		}
	})
}

func TestAFollowerThatTakesNothingIsLetGoWhenPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a audience
		slow, prompt := a.join(t.Context()), a.join(t.Context())
		var received atomic.Int64
		go func() {
			for range prompt.events {
				received.Add(1)
			}
		}()
		defer close(prompt.events)
		count := publishAll(&a)
		time.Sleep(patience - time.Second)
		synctest.Wait()
		if slow.ctx.Err() != nil || count.Load() != bufferedEvents {
			t.Errorf("before: %v, %d published", context.Cause(slow.ctx), count.Load())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := context.Cause(slow.ctx); connect.CodeOf(err) != connect.CodeResourceExhausted {
			t.Errorf("it was told %v", err)
		}
		if count.Load() != 1000 || received.Load() != 1000 {
			t.Errorf("the other one got %d of %d", received.Load(), count.Load())
		}
	})
}

func TestAStreamSpeaksWheneverItWasSilentForTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRunning(nil)
		p.info = &pb.ProcessInfo{Pid: 7}
		f := p.audience.join(t.Context())
		began := time.Now()
		type sent struct {
			after time.Duration
			event string
		}
		var got []sent
		go func() {
			time.Sleep(15 * time.Second)
			p.audience.publish(printed("x"))
			time.Sleep(16 * time.Second)
			close(p.done)
		}()
		err := relay(p, f, 10*time.Second, func(e *pb.ProcessEvent) error {
			kind := map[bool]string{true: "alive"}[e.GetKeepalive() != nil]
			if e.GetStart() != nil {
				kind = "start"
			}
			if e.GetData() != nil {
				kind = "data"
			}
			got = append(got, sent{time.Since(began), kind})
			return nil
		})
		want := []sent{{0, "start"}, {10 * time.Second, "alive"}, {15 * time.Second, "data"}, {25 * time.Second, "alive"}}
		if err != nil || len(got) != len(want) {
			t.Fatalf("it sent %v and ended with %v", got, err)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("event %d is %v, want %v", i, got[i], want[i])
			}
		}
	})
}

func TestAStreamEndsWithTheErrorOfItsClient(t *testing.T) {
	p := newRunning(nil)
	p.info = &pb.ProcessInfo{Pid: 7}
	gone := errors.New("connection reset")
	if err := relay(p, p.audience.join(t.Context()), time.Minute, func(*pb.ProcessEvent) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("it ends with %v", err)
	}
}

package lifecycle

import (
	"context"
	"sync"
	"testing"
	"time"

	"cube"
)

func TestTrafficWakesWhatMayBeWoken(t *testing.T) {
	for _, row := range []struct {
		name   string
		expiry cube.Expiry
		memory bool // it was paused with
		secret bool // it wants tokens
		visit  func(cube.Sandbox) Visitor
		want   cube.Kind // -1: it is woken
	}{
		{"an open one", cube.Expiry{Resume: true}, true, false, func(cube.Sandbox) Visitor { return Visitor{} }, -1},
		{"an open one's agent", cube.Expiry{Resume: true}, true, false, func(cube.Sandbox) Visitor { return Visitor{Agent: true} }, -1},
		{"one that sleeps on", cube.Expiry{}, true, false, func(cube.Sandbox) Visitor { return Visitor{} }, cube.NotFound},
		{"one without memory", cube.Expiry{Resume: true}, false, false, func(cube.Sandbox) Visitor { return Visitor{} }, cube.NotFound},
		{"a private one, without a token", cube.Expiry{Resume: true}, true, true, func(cube.Sandbox) Visitor { return Visitor{} }, cube.Forbidden},
		{"a private one, with the agent's token", cube.Expiry{Resume: true}, true, true, func(s cube.Sandbox) Visitor { return Visitor{AccessToken: s.AccessToken} }, cube.Forbidden},
		{"a private one, with its token", cube.Expiry{Resume: true}, true, true, func(s cube.Sandbox) Visitor { return Visitor{TrafficToken: s.TrafficToken} }, -1},
		{"a secured agent, without a token", cube.Expiry{Resume: true}, true, true, func(cube.Sandbox) Visitor { return Visitor{Agent: true} }, cube.Forbidden},
		{"a secured agent, with another token", cube.Expiry{Resume: true}, true, true, func(s cube.Sandbox) Visitor { return Visitor{Agent: true, AccessToken: s.TrafficToken} }, cube.Forbidden},
		{"a secured agent, with its token", cube.Expiry{Resume: true}, true, true, func(s cube.Sandbox) Visitor { return Visitor{Agent: true, AccessToken: s.AccessToken} }, -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				s := w.server()
				sandbox := mustCreate(t, s, func(r *CreateRequest) {
					r.Expiry, r.Secure, r.Private, r.Timeout = row.expiry, row.secret, row.secret, time.Hour
				})
				mustPause(t, s, sandbox.ID, row.memory)
				over, err := s.Visit(t.Context(), sandbox.ID, row.visit(sandbox))
				after, getErr := s.Get(t.Context(), sandbox.ID)
				if getErr != nil {
					t.Fatal(getErr)
				}
				if row.want >= 0 {
					wantKind(t, err, row.want)
					if after.State != cube.Paused {
						t.Errorf("it is %s", after.State)
					}
					return
				}
				if err != nil || isClosed(over) || after.State != cube.Running || !after.EndAt.Equal(now().Add(time.Hour)) {
					t.Errorf("woken: %v, %+v", err, after)
				}
			})
		})
	}
}

func TestWhatTrafficWakesHasFiveMinutesAtLeast(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s, waking, func(r *CreateRequest) { r.Timeout = 10 * time.Second }).ID
		mustPause(t, s, id, true)
		if _, err := s.Visit(t.Context(), id, Visitor{}); err != nil {
			t.Fatal(err)
		}
		if row, _ := s.Get(t.Context(), id); !row.EndAt.Equal(now().Add(5 * time.Minute)) {
			t.Errorf("it ends at %v, now is %v", row.EndAt, now())
		}
	})
}

func TestTrafficWaitsForAPauseAndIsServed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s, waking).ID
		begun, goOn := make(chan struct{}), make(chan struct{})
		w.engine.OnCheckpoint = func(context.Context, cube.CheckpointRequest) error {
			close(begun)
			<-goOn
			return nil
		}
		var group sync.WaitGroup
		group.Go(func() {
			if err := s.Pause(context.Background(), id, true); err != nil {
				t.Error(err)
			}
		})
		<-begun
		for range 20 {
			group.Go(func() {
				over, err := s.Visit(context.Background(), id, Visitor{})
				if err != nil || isClosed(over) {
					t.Errorf("a visitor: %v", err)
				}
			})
		}
		time.Sleep(time.Second)
		close(goOn)
		group.Wait()
	})
}

func TestTrafficThatCannotWakeForWantOfAPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.MaxSandboxes = 1
		s := w.server()
		id := mustCreate(t, s, waking).ID
		mustPause(t, s, id, true)
		mustCreate(t, s)
		_, err := s.Visit(t.Context(), id, Visitor{})
		wantKind(t, err, cube.Exhausted)
	})
}

package lifecycle

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

// keyed is a request with a key; body stands for the rest of it.
func keyed(key, body string) CreateRequest {
	req := simple()
	req.Idempotency = &Idempotency{Key: key}
	copy(req.Idempotency.BodyHash[:], body)
	return req
}

func TestTheSameKeyGivesTheSameSandbox(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		first, err := s.Create(t.Context(), keyed("k", "a"))
		if err != nil || first.Replayed {
			t.Fatalf("first = %+v, %v; want a new sandbox", first, err)
		}
		again, err := s.Create(t.Context(), keyed("k", "a"))
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "the replay", again, Created{Sandbox: first.Sandbox, Replayed: true})

		other, err := s.Create(t.Context(), keyed("other", "a"))
		if err != nil || other.Sandbox.ID == first.Sandbox.ID {
			t.Errorf("another key gave %s, %v; want a new sandbox", other.Sandbox.ID, err)
		}
		if n := len(w.machine()); n != 2 {
			t.Errorf("%d sandboxes run, want 2", n)
		}
	})
}

func TestTheSameKeyWithAnotherBodyIsAConflict(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		if _, err := s.Create(t.Context(), keyed("k", "a")); err != nil {
			t.Fatal(err)
		}
		_, err := s.Create(t.Context(), keyed("k", "b"))
		wantKind(t, err, cube.Conflict)
	})
}

func TestAKeyOutlivesTheServer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		first, err := s.Create(t.Context(), keyed("k", "a"))
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		again, err := w.server().Create(t.Context(), keyed("k", "a"))
		if err != nil || !again.Replayed || again.Sandbox.ID != first.Sandbox.ID {
			t.Errorf("after a restart: %+v, %v; want %s again", again, err, first.Sandbox.ID)
		}
	})
}

func TestManyRequestsWithOneKeyMakeOneSandbox(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { time.Sleep(time.Second); return nil }
		s := w.server()
		var mu sync.Mutex
		made, replayed := map[cube.SandboxID]bool{}, 0
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				created, err := s.Create(t.Context(), keyed("k", "a"))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				made[created.Sandbox.ID] = true
				if created.Replayed {
					replayed++
				}
			})
		}
		wg.Wait()
		if len(made) != 1 || replayed != 19 || len(w.machine()) != 1 {
			t.Errorf("%d sandboxes, %d replays, %d run; want 1, 19, 1", len(made), replayed, len(w.machine()))
		}
	})
}

func TestAFailedCreateGivesItsKeyFree(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		starts := 0
		w.engine.OnStart = func(context.Context, cube.StartRequest) error {
			if starts++; starts == 1 {
				time.Sleep(time.Second)
				return errors.New("on purpose")
			}
			return nil
		}
		s := w.server()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := s.Create(t.Context(), keyed("k", "a"))
			wantKind(t, err, cube.Internal)
		})
		synctest.Wait()
		// This one waits for the first, and does what that one could not.
		created, err := s.Create(t.Context(), keyed("k", "a"))
		wg.Wait()
		if err != nil || created.Replayed {
			t.Errorf("after a failure: %+v, %v; want a new sandbox", created, err)
		}
	})
}

func TestACreateWithAKeyCompletesWithoutItsClient(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { time.Sleep(time.Second); return nil }
		s := w.server()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = s.Create(ctx, keyed("k", "a")) }) // nobody hears the answer
		synctest.Wait()
		cancel()
		created, err := s.Create(t.Context(), keyed("k", "a"))
		wg.Wait()
		if err != nil || !created.Replayed {
			t.Errorf("the client that asks again gets %+v, %v; want the sandbox of its first request", created, err)
		}
	})
}

func TestAClientCanStopWaitingForAnothersCreate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		release := make(chan struct{})
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { <-release; return nil }
		s := w.server()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Create(t.Context(), keyed("k", "a")); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Create(ctx, keyed("k", "a"))
		wantKind(t, err, cube.Unavailable)
		close(release)
		wg.Wait()
	})
}

func TestAKeyWhoseSandboxHasEndedSaysSoUntilItsRowIsDeleted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		first, err := s.Create(t.Context(), keyed("k", "a"))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Kill(t.Context(), first.Sandbox.ID, ""); err != nil {
			t.Fatal(err)
		}
		_, err = s.Create(t.Context(), keyed("k", "a"))
		wantKind(t, err, cube.Conflict)
		if !strings.Contains(err.Error(), string(first.Sandbox.ID)) || !strings.Contains(err.Error(), "killed") {
			t.Errorf("error = %q, want one that names the sandbox and its end", err)
		}
		time.Sleep(endRetention + deleteEvery)
		synctest.Wait()
		again, err := s.Create(t.Context(), keyed("k", "a"))
		if err != nil || again.Replayed {
			t.Errorf("a day later: %+v, %v; want a new sandbox", again, err)
		}
	})
}

package lifecycle

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

// after lets time pass and all that is due be done.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestASandboxEndsAtItsDeadlineAndNotBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		sandbox := mustCreate(t, s)
		done := s.Done(sandbox.ID)
		after(simple().Timeout - time.Millisecond)
		if _, err := s.Get(t.Context(), sandbox.ID); err != nil || isClosed(done) {
			t.Fatalf("a millisecond before its deadline: %v", err)
		}
		after(time.Millisecond)
		_, err := s.Get(t.Context(), sandbox.ID)
		wantEnded(t, err, cube.EndDeadline)
		if !isClosed(done) {
			t.Error("Done is still open")
		}
		w.wantNothingLeft()
		w.wantEnd(sandbox.ID, cube.EndDeadline)
	})
}

func TestEachSandboxHasItsOwnDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		for _, minutes := range []time.Duration{3, 1, 2, 5, 4} {
			mustCreate(t, s, func(r *CreateRequest) { r.Timeout = minutes * time.Minute })
		}
		for left := 4; left >= 0; left-- {
			after(time.Minute)
			if n := len(w.machine()); n != left {
				t.Errorf("%d sandboxes run, want %d", n, left)
			}
		}
	})
}

func TestDeadlinesAreMoved(t *testing.T) {
	setTimeout := func(s *Sandboxes, id cube.SandboxID, d time.Duration) error {
		return s.SetTimeout(context.Background(), id, d)
	}
	extend := func(s *Sandboxes, id cube.SandboxID, d time.Duration) error {
		_, err := s.Extend(context.Background(), id, d)
		return err
	}
	for _, test := range []struct {
		name string
		move func(*Sandboxes, cube.SandboxID, time.Duration) error
		by   time.Duration
		want time.Duration // from the move, a minute after a create with 5 minutes
	}{
		{"SetTimeout to later", setTimeout, time.Hour, time.Hour},
		{"SetTimeout to sooner", setTimeout, time.Minute, time.Minute},
		{"SetTimeout to now", setTimeout, 0, 0},
		{"SetTimeout to the past", setTimeout, -time.Hour, 0},
		{"SetTimeout to the maximum", setTimeout, 24 * time.Hour, 24 * time.Hour},
		{"Extend to later", extend, time.Hour, time.Hour},
		{"Extend to sooner", extend, time.Minute, 4 * time.Minute},
		{"Extend by nothing", extend, 0, 4 * time.Minute},
		{"Extend by less than nothing", extend, -time.Hour, 4 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				s := w.server()
				sandbox := mustCreate(t, s)
				after(time.Minute)
				if err := test.move(s, sandbox.ID, test.by); err != nil {
					t.Fatal(err)
				}
				if test.want > 0 {
					got, err := s.Get(t.Context(), sandbox.ID)
					if err != nil {
						t.Fatal(err)
					}
					wantEqual(t, "EndAt", got.EndAt, now().Add(test.want))
					after(test.want - time.Millisecond)
					if _, err := s.Get(t.Context(), sandbox.ID); err != nil {
						t.Errorf("a millisecond before its deadline: %v", err)
					}
					after(time.Millisecond)
				}
				_, err := s.Get(t.Context(), sandbox.ID)
				wantEnded(t, err, cube.EndDeadline)
				synctest.Wait()
				w.wantNothingLeft()
			})
		})
	}
}

func TestExtendReturnsTheSandboxAsItIsThen(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		sandbox := mustCreate(t, s)
		same, err := s.Extend(t.Context(), sandbox.ID, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "what is not extended", same, sandbox)
		sandbox.EndAt = now().Add(time.Hour)
		later, err := s.Extend(t.Context(), sandbox.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "what is extended", later, sandbox)
	})
}

func TestADeadlineAboveTheMaximumIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.MaxTimeout = time.Hour
		s := w.server()
		sandbox := mustCreate(t, s)
		wantKind(t, s.SetTimeout(t.Context(), sandbox.ID, time.Hour+1), cube.Invalid)
		_, err := s.Extend(t.Context(), sandbox.ID, time.Hour+1)
		wantKind(t, err, cube.Invalid)
		got, err := s.Get(t.Context(), sandbox.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "sandbox", got, sandbox)
	})
}

func TestTheMaximumIsFromNowAndNotFromTheStart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.MaxTimeout = 10 * time.Minute
		s := w.server()
		sandbox := mustCreate(t, s)
		for range 5 {
			if err := s.SetTimeout(t.Context(), sandbox.ID, 10*time.Minute); err != nil {
				t.Fatal(err)
			}
			after(9 * time.Minute)
		}
		if _, err := s.Get(t.Context(), sandbox.ID); err != nil {
			t.Errorf("after 45 minutes: %v", err)
		}
	})
}

// The clock of a machine that slept, or whose time was set, jumps over deadlines
// without a timer that fires. Here the deadline jumps instead.
func TestADeadlineThatTheClockJumpedOverIsSeenSoon(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		sandbox := mustCreate(t, s)
		synctest.Wait()
		l := s.find(sandbox.ID)
		l.mu.Lock()
		l.sandbox.EndAt = now()
		l.deadline.Store(now().UnixMilli())
		l.mu.Unlock()
		after(clockCheck)
		w.wantEnd(sandbox.ID, cube.EndDeadline)
	})
}

// When the clock is set back after the scheduler has seen a deadline pass, the
// deadline is ahead again.
func TestADeadlineIsNotLostWhenTheClockIsSetBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		sandbox := mustCreate(t, s)
		l := s.find(sandbox.ID)
		l.deadline.Store(0) // as the scheduler does
		s.expire(l)
		after(simple().Timeout - time.Millisecond)
		if _, err := s.Get(t.Context(), sandbox.ID); err != nil {
			t.Errorf("before its deadline: %v", err)
		}
		after(time.Millisecond)
		w.wantEnd(sandbox.ID, cube.EndDeadline)
	})
}

func TestADeadlineIsKeptThoughTheStoreFailsForAWhile(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		store := &failingStore{Store: w.store}
		w.config.Store, w.config.Engine = store, w.engine
		s := w.server()
		sandbox := mustCreate(t, s)
		store.fail(errors.New("disk full"))
		after(simple().Timeout + time.Second)
		if len(w.machine()) != 1 {
			t.Error("the engine worked before the row was written")
		}
		store.fail(nil)
		after(lastRetry)
		w.wantEnd(sandbox.ID, cube.EndDeadline)
		w.wantNothingLeft()
	})
}

// failingStore is a store whose writes fail for as long as they are told to.
type failingStore struct {
	cube.Store
	mu  sync.Mutex
	err error
}

func (s *failingStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *failingStore) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *failingStore) CreateSandbox(ctx context.Context, sandbox cube.Sandbox, key *cube.Idempotency) error {
	if err := s.failure(); err != nil {
		return err
	}
	return s.Store.CreateSandbox(ctx, sandbox, key)
}

func (s *failingStore) UpdateSandbox(ctx context.Context, from cube.State, sandbox cube.Sandbox) error {
	if err := s.failure(); err != nil {
		return err
	}
	return s.Store.UpdateSandbox(ctx, from, sandbox)
}

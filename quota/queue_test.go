package quota

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"cube"
)

// visitors wait in a queue, in a bubble, and write down who got a slot.
type visitors struct {
	t   *testing.T
	q   *Queue
	mu  sync.Mutex
	got []string
}

// comes has somebody join the line of an account, and waits until they stand
// there or have a slot.
func (v *visitors) comes(account, name string) (leave context.CancelFunc) {
	ctx, leave := context.WithCancel(v.t.Context())
	go func() {
		defer leave()
		if v.q.Acquire(ctx, account) == nil {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.got = append(v.got, name)
		}
	}()
	synctest.Wait()
	return leave
}

func (v *visitors) release() {
	v.q.Release()
	synctest.Wait()
}

func (v *visitors) order() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return strings.Join(v.got, " ")
}

func TestThoseWhoWaitTakeTurnsByAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &visitors{t: t, q: NewQueue(1, 100, 100)}
		for i := range 6 {
			v.comes("a", fmt.Sprint("a", i)) // a0 gets the slot
		}
		v.comes("b", "b0")
		v.comes("c", "c0")
		v.comes("c", "c1")
		v.release()
		v.comes("b", "b1") // behind b0, whose turn it is
		for range 9 {
			v.release()
		}
		if got, want := v.order(), "a0 a1 b0 c0 a2 b1 c1 a3 a4 a5"; got != want {
			t.Errorf("slots went to %s, want %s", got, want)
		}
		if v.q.free != 1 {
			t.Errorf("%d slots are free, want 1", v.q.free)
		}
	})
}

func TestAThousandOfOneDoNotKeepAnotherWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &visitors{t: t, q: NewQueue(2, 2000, 1000)}
		for range 1000 {
			v.comes("a", "a")
		}
		v.comes("b", "b")
		v.release()
		v.release()
		if !strings.HasSuffix(v.order(), "b") {
			t.Errorf("slots went to %s, and b still waits", v.order())
		}
		for range 1001 {
			v.release()
		}
	})
}

func TestWhoGoesAwayIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &visitors{t: t, q: NewQueue(1, 100, 100)}
		v.comes("a", "a0")
		leaveA1 := v.comes("a", "a1")
		v.comes("a", "a2")
		leaveB0 := v.comes("b", "b0")
		v.comes("c", "c0")
		leaveA1()
		leaveB0()
		synctest.Wait()
		for range 3 {
			v.release()
		}
		if got, want := v.order(), "a0 a2 c0"; got != want {
			t.Errorf("slots went to %s, want %s", got, want)
		}
		if v.q.waiting != 0 || len(v.q.lines) != 0 || v.q.turns.Len() != 0 || v.q.free != 1 {
			t.Errorf("left: %d who wait, %d lines, %d turns, %d free", v.q.waiting, len(v.q.lines), v.q.turns.Len(), v.q.free)
		}
	})
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	q := NewQueue(1, 1, 1)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Acquire(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a free slot: error = %v", err)
	}
	if err := q.Acquire(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	why := errors.New("on purpose")
	ctx, stop := context.WithCancelCause(t.Context())
	go stop(why)
	if err := q.Acquire(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("while it waits: error = %v", err)
	}
}

func TestNotTooManyMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &visitors{t: t, q: NewQueue(1, 4, 3)}
		refused := func(account, says string) {
			t.Helper()
			err := v.q.Acquire(t.Context(), account)
			if cube.KindOf(err) != cube.Exhausted || !strings.Contains(err.Error(), says) {
				t.Errorf("error = %v, want exhausted with %q", err, says)
			}
		}
		for range 3 {
			v.comes("a", "a")
		}
		leave := v.comes("a", "a")
		refused("a", "3 of your sandboxes wait")
		v.comes("b", "b")
		refused("c", "4 sandboxes wait")
		refused("b", "4 sandboxes wait")
		leave()
		synctest.Wait()
		v.comes("c", "c")
		refused("a", "4 sandboxes wait")
		v.release()
		v.comes("a", "a")
		for range 5 {
			v.release()
		}
		if n := len(strings.Fields(v.order())); n != 6 {
			t.Errorf("%d got a slot, want 6: %s", n, v.order())
		}
	})
}

// Whatever comes and goes, no more slots are out than there are, and all are
// back in the end.
func TestSlotsAreNeitherMadeNorLost(t *testing.T) {
	const slots = 3
	q := NewQueue(slots, 1000, 1000)
	var out, most atomic.Int32
	var wg sync.WaitGroup
	for n := range 600 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if n%3 == 0 {
				go cancel() // at any moment, also that of the grant
			}
			if q.Acquire(ctx, fmt.Sprint(n%7)) != nil {
				return
			}
			now := out.Add(1)
			for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
			}
			out.Add(-1)
			q.Release()
		})
	}
	wg.Wait()
	if most.Load() > slots || q.free != slots || q.waiting != 0 || len(q.lines) != 0 {
		t.Errorf("%d slots were out at once; in the end %d are free, %d wait in %d lines; want at most %d, and %d, 0, 0",
			most.Load(), q.free, q.waiting, len(q.lines), slots, slots)
	}
}

// A queue is compared with the plainest one that could be written, through long
// random lives.
func TestAQueueIsFairWhateverHappens(t *testing.T) {
	type somebody struct{ account, name string }
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			v := &visitors{t: t, q: NewQueue(2, 1000, 1000)}
			free := 2
			var waiting []somebody // in the order in which they came
			var turns []string     // accounts, the next one first
			var want []string
			leaves := map[string]context.CancelFunc{}
			settle := func() { // accounts of which nobody waits have no turn
				turns = slices.DeleteFunc(turns, func(account string) bool {
					return !slices.ContainsFunc(waiting, func(s somebody) bool { return s.account == account })
				})
			}
			for step := range 400 {
				switch random.IntN(5) {
				case 0, 1:
					s := somebody{fmt.Sprint(random.IntN(4)), fmt.Sprint(step)}
					leaves[s.name] = v.comes(s.account, s.name)
					if free > 0 {
						free--
						want = append(want, s.name)
						break
					}
					waiting = append(waiting, s)
					if !slices.Contains(turns, s.account) {
						turns = append(turns, s.account)
					}
				case 2, 3:
					switch {
					case len(waiting) > 0:
						v.release()
						account := turns[0]
						turns = append(turns[1:], account)
						i := slices.IndexFunc(waiting, func(s somebody) bool { return s.account == account })
						want = append(want, waiting[i].name)
						waiting = slices.Delete(waiting, i, i+1)
						settle()
					case free < 2:
						v.release()
						free++
					}
				case 4:
					if len(waiting) > 0 {
						i := random.IntN(len(waiting))
						leaves[waiting[i].name]()
						synctest.Wait()
						waiting = slices.Delete(waiting, i, i+1)
						settle()
					}
				}
				if got := v.order(); got != strings.Join(want, " ") {
					t.Fatalf("seed %d, step %d: slots went to\n%s, want\n%s", seed, step, got, want)
				}
			}
			for _, leave := range leaves {
				leave()
			}
		})
	}
}

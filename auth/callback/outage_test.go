package callback

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestK2AHungServiceKeepsNobodyLongerThanTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		h := w.add("hung", hang)
		c := newClient(t, Config{URLs: []string{"http://hung"}, InFlight: 100, dial: w.dial})
		const clients = 5_000
		began := time.Now()
		got := ask(t.Context(), c, clients)
		synctest.Wait()
		if s := c.Stats(); s.InFlight != 100 || s.Waiting != clients-100 {
			t.Errorf("while all hang: %+v", s)
		}
		for range clients {
			if o := <-got; !errors.Is(o.err, errSlow) && !errors.Is(o.err, errNoPlace) {
				t.Fatalf("somebody got %+v", o)
			}
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		if n := h.most.Load(); n > 101 { // with a probe
			t.Errorf("the service had %d questions at once", n)
		}
		time.Sleep(defaultTimeout + time.Second) // a probe may have begun in the last moment
		if s := c.Stats(); s != (Stats{Questions: clients, NoAnswers: clients, BreakerOpen: true}) {
			t.Errorf("afterwards: %+v", s)
		}
		// That nothing of this runs on is the bubble's to say.
	})
}

func TestWhoFindsNoPlaceWaitsForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := newWire(t)
		h := w.add("slow", func(http.ResponseWriter, *http.Request) { <-release })
		c := newClient(t, Config{URLs: []string{"http://slow"}, InFlight: 2, dial: w.dial})
		got := ask(t.Context(), c, 10)
		synctest.Wait()
		close(release)
		for range 10 {
			if o := <-got; !o.answer.Allowed {
				t.Errorf("somebody got %+v", o)
			}
		}
		if n := h.most.Load(); n != 2 {
			t.Errorf("%d questions at once", n)
		}
	})
}

// down makes a client of a service that is taken for down.
func down(t *testing.T, w *wire, h *host, config Config) *Client {
	t.Helper()
	config.dial = w.dial
	c := newClient(t, config)
	h.refuses.Store(true)
	for range defaultErrorsToOpen {
		if c.Stats().BreakerOpen {
			t.Fatal("the breaker opened too early")
		}
		c.Decide(t.Context(), question("key"))
	}
	if !c.Stats().BreakerOpen {
		t.Fatal("the breaker is closed")
	}
	h.dials.Store(0)
	return c
}

func TestInAnOutageOneQuestionIsOutAndItsErrorIsEverybodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		h := w.add("auth", hang)
		c := down(t, w, h, Config{URLs: []string{"http://auth"}})
		h.refuses.Store(false) // connections are made, and questions hang
		first := ask(t.Context(), c, 1)
		time.Sleep(4 * time.Second)
		others := ask(t.Context(), c, 1_000)
		synctest.Wait()
		if s := c.Stats(); s.InFlight != 1 || s.Waiting != 1_001 {
			t.Errorf("in the outage: %+v", s)
		}
		began := time.Now()
		want := (<-first).err
		for range 1_000 {
			if o := <-others; !errors.Is(o.err, want) || !errors.Is(o.err, errSlow) {
				t.Fatalf("somebody got %+v, want %v", o, want)
			}
		}
		if took := time.Since(began); took != 6*time.Second { // what was left to the first
			t.Errorf("the others waited %v", took)
		}
		if n := h.dials.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		wantNoAnswer(t, c, errSlow.Error()) // who comes later makes the next
		if n := h.dials.Load(); n != 2 {
			t.Errorf("%d connections after the next question", n)
		}
	})
}

func TestAnOutageIsOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := newWire(t)
		h := w.add("auth", func(http.ResponseWriter, *http.Request) { <-release })
		c := down(t, w, h, Config{URLs: []string{"http://auth"}})
		h.refuses.Store(false)
		got := ask(t.Context(), c, 500)
		synctest.Wait()
		if n := h.asked.Load(); n != 1 {
			t.Errorf("%d questions in the outage", n)
		}
		began := time.Now()
		close(release)
		for range 500 {
			if o := <-got; !o.answer.Allowed {
				t.Fatalf("somebody got %+v", o)
			}
		}
		if time.Since(began) != 0 {
			t.Errorf("the others went on %v after the service was back", time.Since(began))
		}
		// The probe's answer is that of whoever asked it: nobody asks twice.
		if n := h.asked.Load(); n != 500 {
			t.Errorf("500 requests were %d questions", n)
		}
		if c.Stats().BreakerOpen {
			t.Error("the breaker is open")
		}
	})
}

func TestAnyAnswerEndsAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		h := w.add("auth", status(500))
		c := down(t, w, h, Config{URLs: []string{"http://auth"}})
		h.refuses.Store(false)
		if a := decide(t, c, question("key")); a.Allowed || a.Status != 500 {
			t.Errorf("answered %+v", a)
		}
		if c.Stats().BreakerOpen {
			t.Error("the breaker is open")
		}
	})
}

func TestAnAnswerThatCannotBeReadIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		h := w.add("auth", answering(200, http.Header{"X-Auth-Team": {"red blue"}}))
		fallback := w.add("fallback", status(200))
		c := newClient(t, Config{URLs: []string{"http://auth", "http://fallback"}, dial: w.dial})
		for range 2 * defaultErrorsToOpen {
			wantNoAnswer(t, c, "X-Auth-Team cannot be read")
		}
		if c.Stats().BreakerOpen || h.asked.Load() != 2*defaultErrorsToOpen || fallback.asked.Load() != 0 {
			t.Errorf("the service was asked %d times, the fallback %d times: %+v", h.asked.Load(), fallback.asked.Load(), c.Stats())
		}
	})
}

func TestFiveFailuresOpenTheBreakerOnlyInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		h := w.add("auth", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
		c := newClient(t, Config{URLs: []string{"http://auth"}, dial: w.dial})
		for range 5 {
			h.refuses.Store(true)
			for range defaultErrorsToOpen - 1 {
				wantNoAnswer(t, c, "refused")
			}
			if c.Stats().BreakerOpen {
				t.Error("the breaker is open")
			}
			h.refuses.Store(false)
			decide(t, c, question("key"))
		}
	})
}

func TestWhoGoesAwayIsNoFailureOfTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.add("auth", hang)
		outcomes := map[string]int{}
		c := newClient(t, Config{URLs: []string{"http://auth"}, dial: w.dial, Observe: func(_ time.Duration, o string) { outcomes[o]++ }})
		for range defaultErrorsToOpen {
			ctx, leave := context.WithCancelCause(t.Context())
			got := ask(ctx, c, 1)
			synctest.Wait()
			leave(errors.New("of a caller's own, which may hold anything"))
			if o := <-got; !errors.Is(o.err, context.Canceled) {
				t.Errorf("got %+v", o)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // its own, not ours
			if o := <-ask(ctx, c, 1); !errors.Is(o.err, context.DeadlineExceeded) {
				t.Errorf("got %+v", o)
			}
			cancel()
		}
		if s := c.Stats(); s != (Stats{Questions: 2 * defaultErrorsToOpen}) {
			t.Errorf("%+v", s)
		}
		if outcomes[OutcomeGone] != 2*defaultErrorsToOpen || len(outcomes) != 1 {
			t.Errorf("the outcomes are %v", outcomes)
		}
	})
}

func TestAProbeDoesNotLeaveWithWhoeverAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := newWire(t)
		h := w.add("auth", func(http.ResponseWriter, *http.Request) { <-release })
		c := down(t, w, h, Config{URLs: []string{"http://auth"}})
		h.refuses.Store(false)
		ctx, leave := context.WithCancel(t.Context())
		first := ask(ctx, c, 1)
		synctest.Wait()
		others := ask(t.Context(), c, 10)
		synctest.Wait()
		leave()
		if o := <-first; !errors.Is(o.err, context.Canceled) { // at once: nothing is released yet
			t.Errorf("who goes away got %+v", o)
		}
		close(release)
		for range 10 {
			if o := <-others; !o.answer.Allowed {
				t.Errorf("who stays got %+v", o)
			}
		}
	})
}

func TestALateAnswerEndsAnOutageToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late, release := make(chan struct{}), make(chan struct{})
		var asked atomic.Int64
		w := newWire(t)
		w.add("auth", func(w http.ResponseWriter, r *http.Request) {
			switch n := asked.Add(1); {
			case n == 1:
				<-late
			case n <= 1+defaultErrorsToOpen:
				panic(http.ErrAbortHandler)
			case n == 2+defaultErrorsToOpen:
				<-release
			}
		})
		c := newClient(t, Config{URLs: []string{"http://auth"}, dial: w.dial})
		first := ask(t.Context(), c, 1)
		synctest.Wait()
		for range defaultErrorsToOpen {
			wantNoAnswer(t, c, errBroken.Error())
		}
		prober := ask(t.Context(), c, 1)
		synctest.Wait()
		others := ask(t.Context(), c, 10)
		synctest.Wait()
		close(late)
		for got, n := range map[<-chan outcome]int{first: 1, others: 10} {
			for range n {
				if o := <-got; !o.answer.Allowed {
					t.Errorf("somebody got %+v", o)
				}
			}
		}
		synctest.Wait()
		before := asked.Load()
		close(release)
		if o := <-prober; !o.answer.Allowed || asked.Load() != before {
			t.Errorf("who asked the probe got %+v after %d questions more", o, asked.Load()-before)
		}
		if want := int64(1 + defaultErrorsToOpen + 1 + 10); before != want {
			t.Errorf("%d questions, want %d", before, want)
		}
	})
}

func TestConnectingHasATimeOfItsOwn(t *testing.T) {
	for name, row := range map[string]struct {
		url  string
		dial dialer
	}{
		"TCP": {"http://auth", func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}},
		"TLS": {"https://auth", func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs)
			return ours, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, Config{URLs: []string{row.url}, ConnectTimeout: 3 * time.Second, dial: row.dial})
				began := time.Now()
				wantNoAnswer(t, c, errSlow.Error())
				if took := time.Since(began); took != 3*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestWhatWasAskedBeforeAnOutageDoesNotBringItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		w := newWire(t)
		h := w.add("auth", func(w http.ResponseWriter, r *http.Request) {
			if hangs.Load() {
				hang(w, r)
			}
		})
		c := newClient(t, Config{URLs: []string{"http://auth"}, dial: w.dial})
		hangs.Store(true)
		early := ask(t.Context(), c, defaultErrorsToOpen)
		time.Sleep(time.Second)
		late := ask(t.Context(), c, 100)
		for range defaultErrorsToOpen {
			<-early
		}
		if !c.Stats().BreakerOpen {
			t.Fatal("the breaker is closed")
		}
		hangs.Store(false)
		decide(t, c, question("key"))
		for range 100 {
			<-late // they fail after the service is back
		}
		if c.Stats().BreakerOpen {
			t.Errorf("the breaker is open again after %d questions", h.asked.Load())
		}
	})
}

func TestCloseEndsAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		h := w.add("auth", hang)
		c := down(t, w, h, Config{URLs: []string{"http://auth"}})
		h.refuses.Store(false)
		got := ask(t.Context(), c, 2)
		synctest.Wait()
		began := time.Now()
		c.Close()
		for range 2 {
			if o := <-got; !errors.Is(o.err, errEnded) {
				t.Errorf("who waited got %+v", o)
			}
		}
		wantNoAnswer(t, c, errEnded.Error())
		if time.Since(began) != 0 {
			t.Errorf("it took %v", time.Since(began))
		}
	})
}

func TestFallbacksAreAskedInOrderWhileThereIsNoAnswer(t *testing.T) {
	for name, row := range map[string]struct {
		first, second  http.HandlerFunc // nil: refuses connections
		status         int
		asked          [3]int64
		took           time.Duration
		failovers      uint64
		breaksOffFirst bool
	}{
		"the first answers":       {status(200), status(200), 200, [3]int64{1, 0, 0}, 0, 0, false},
		"its no is an answer":     {status(401), status(200), 401, [3]int64{1, 0, 0}, 0, 0, false},
		"its 500 is an answer":    {status(500), status(200), 500, [3]int64{1, 0, 0}, 0, 0, false},
		"its 503 is an answer":    {status(503), status(200), 503, [3]int64{1, 0, 0}, 0, 0, false},
		"its 302 is an answer":    {status(302), status(200), 302, [3]int64{1, 0, 0}, 0, 0, false},
		"the first is gone":       {nil, status(200), 200, [3]int64{0, 1, 0}, 0, 1, false},
		"the second says no":      {nil, status(403), 403, [3]int64{0, 1, 0}, 0, 1, false},
		"the third is left":       {nil, nil, 200, [3]int64{0, 0, 1}, 0, 2, false},
		"the first hangs":         {hang, status(200), 200, [3]int64{1, 1, 0}, 3 * time.Second, 1, false},
		"the first two hang":      {hang, hang, 200, [3]int64{1, 1, 1}, 6 * time.Second, 2, false},
		"a second that hangs":     {nil, hang, 200, [3]int64{0, 1, 1}, 4500 * time.Millisecond, 2, false},
		"the first breaks it off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, status(200), 200, [3]int64{1, 1, 0}, 0, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(t)
				hosts := []*host{w.add("first", row.first), w.add("second", row.second), w.add("third", status(200))}
				hosts[0].refuses.Store(row.first == nil)
				hosts[1].refuses.Store(row.second == nil)
				c := newClient(t, Config{URLs: []string{"http://first", "http://second", "http://third"}, Timeout: 9 * time.Second, dial: w.dial})
				began := time.Now()
				if a := decide(t, c, question("key")); a.Status != row.status || a.Allowed != (row.status == 200) {
					t.Errorf("answered %+v", a)
				}
				if took := time.Since(began); took != row.took {
					t.Errorf("it took %v, want %v", took, row.took)
				}
				asked := [3]int64{hosts[0].asked.Load(), hosts[1].asked.Load(), hosts[2].asked.Load()}
				if asked != row.asked || c.Stats().Failovers != row.failovers {
					t.Errorf("asked %v times, want %v; %d failovers, want %d", asked, row.asked, c.Stats().Failovers, row.failovers)
				}
			})
		})
	}
}

func TestAFallbackDoesNotWaitForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		hangs.Store(true)
		w := newWire(t)
		first := w.add("first", func(w http.ResponseWriter, r *http.Request) {
			if hangs.Load() {
				hang(w, r)
			}
		})
		second := w.add("second", status(200))
		c := down(t, w, first, Config{URLs: []string{"http://first", "http://second"}})
		second.asked.Store(0)
		first.refuses.Store(false)
		began := time.Now()
		for range 50 { // one after the other: none of them waits for the probe
			if !decide(t, c, question("key")).Allowed {
				t.Error("refused")
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		synctest.Wait()
		if first.asked.Load() != 1 || second.asked.Load() != 50 {
			t.Errorf("the first was asked %d times and the second %d times", first.asked.Load(), second.asked.Load())
		}
		time.Sleep(11 * time.Second) // the probe ends
		hangs.Store(false)
		decide(t, c, question("key"))
		synctest.Wait() // the next probe brings the first back
		second.asked.Store(0)
		decide(t, c, question("key"))
		if second.asked.Load() != 0 || c.Stats().BreakerOpen {
			t.Error("the first is back, and the second is asked")
		}
	})
}

func TestWithAllDownTheFirstThatIsBackAnswers(t *testing.T) {
	for _, back := range []string{"first", "second"} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			w := newWire(t)
			for _, name := range []string{"first", "second"} {
				w.add(name, func(w http.ResponseWriter, r *http.Request) {
					if name != back {
						hang(w, r)
					}
					<-release
				})
			}
			w.hosts["second"].refuses.Store(true)
			c := down(t, w, w.hosts["first"], Config{URLs: []string{"http://first", "http://second"}})
			for _, h := range w.hosts {
				h.refuses.Store(false)
			}
			got := ask(t.Context(), c, 100)
			synctest.Wait()
			began := time.Now()
			close(release)
			for range 100 {
				if o := <-got; !o.answer.Allowed {
					t.Fatalf("with the %s back, somebody got %+v", back, o)
				}
			}
			if time.Since(began) != 0 {
				t.Errorf("with the %s back it took %v", back, time.Since(began))
			}
		})
	}
}

func TestWithAllDownTheErrorIsTheProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.add("first", status(200))
		w.add("second", status(200)).refuses.Store(true)
		c := down(t, w, w.hosts["first"], Config{URLs: []string{"http://first", "http://second"}})
		for range 100 {
			wantNoAnswer(t, c, "refused")
		}
	})
}

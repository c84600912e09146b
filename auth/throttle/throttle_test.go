package throttle

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestANameHasItsMeasureAndWaitsForTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := New(6)
		defer throttle.Close()
		for i := range 6 {
			if wait := throttle.Take("a"); wait != 0 {
				t.Fatalf("number %d waits %s", i, wait)
			}
		}
		for range 3 { // what was refused is not counted
			if wait := throttle.Take("a"); wait != 10*time.Second {
				t.Errorf("one too many waits %s, want 10s", wait)
			}
		}
		if a, b := throttle.Wait("a"), throttle.Wait("b"); a != 10*time.Second || b != 0 {
			t.Errorf("Wait = %s and %s, want 10s and 0", a, b)
		}
		if wait := throttle.Take("b"); wait != 0 {
			t.Errorf("another name waits %s", wait)
		}
		time.Sleep(10 * time.Second)
		if wait := throttle.Take("a"); wait != 0 {
			t.Errorf("ten seconds later it waits %s", wait)
		}
		if wait := throttle.Take("a"); wait != 10*time.Second {
			t.Errorf("and then %s, want 10s", wait)
		}
	})
}

func TestNoLimitIsNoThrottle(t *testing.T) {
	throttle := New(0)
	defer throttle.Close()
	if throttle.Take("a") != 0 || throttle.Wait("a") != 0 {
		t.Error("somebody has to wait")
	}
}

func TestOfManyAtOnceAsManyPassAsMay(t *testing.T) {
	throttle := New(60)
	defer throttle.Close()
	var passed atomic.Int32
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			if throttle.Take("a") == 0 {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n < 60 || n > 65 { // one more each second that this takes
		t.Errorf("%d passed, want 60", n)
	}
}

func TestMadeUpNamesAreForgotten(t *testing.T) {
	throttle := New(1)
	defer throttle.Close()
	for i := range 3 * maxNames {
		throttle.Take(fmt.Sprint(i))
	}
	throttle.names.CleanUp()
	if n := throttle.names.EstimatedSize(); n > maxNames+maxNames/10 {
		t.Errorf("%d names are remembered, want about %d", n, maxNames)
	}
}

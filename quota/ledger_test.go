package quota

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

var (
	ada   = cube.Identity{Subject: "ada", Team: "red"}
	alan  = cube.Identity{Subject: "alan", Team: "red"}
	bob   = cube.Identity{Subject: "bob"}
	small = cube.Resources{CPUs: 1, MemoryMB: 128}
	large = cube.Resources{CPUs: 4, MemoryMB: 1024}
)

// reserve asks for the place of a new sandbox.
func reserve(t *testing.T, l *Ledger, id cube.Identity, need cube.Resources) cube.SandboxID {
	t.Helper()
	sandbox := cube.NewSandboxID()
	if err := l.Reserve(id, sandbox, need); err != nil {
		t.Fatalf("%s: %v", id.Account(), err)
	}
	return sandbox
}

// wantRefused checks that a new sandbox gets no place, and that the refusal says
// something.
func wantRefused(t *testing.T, l *Ledger, id cube.Identity, need cube.Resources, says string) *cube.Error {
	t.Helper()
	err := l.Reserve(id, cube.NewSandboxID(), need)
	e, ok := errors.AsType[*cube.Error](err)
	if !ok || e.Kind != cube.Exhausted || !strings.Contains(e.Message, says) {
		t.Fatalf("%s: error = %v, want exhausted with %q", id.Account(), err, says)
	}
	return e
}

func TestAThousandAtOnceGetAsManyPlacesAsThereAre(t *testing.T) {
	l := NewLedger(cube.Limits{Sandboxes: 10})
	var admitted atomic.Int32
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if l.Reserve(ada, cube.NewSandboxID(), small) == nil {
				admitted.Add(1)
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != 10 {
		t.Errorf("%d got a place, want 10", n)
	}
}

func TestEachLimitHolds(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits cube.Limits
		need   cube.Resources
		fit    int // so many fit
		says   string
	}{
		{"none", cube.Limits{}, large, 100, ""},
		{"sandboxes", cube.Limits{Sandboxes: 2}, small, 2, "You have 2 of your 2 sandboxes: kill one"},
		{"processors", cube.Limits{CPUs: 9}, large, 2, "have 8 of your 9 processors, and this one needs 4: kill one"},
		{"memory", cube.Limits{MemoryMB: 300}, small, 2, "have 256 of your 300 MiB of memory, and this one needs 128: kill one"},
		{"all of the memory", cube.Limits{MemoryMB: 256}, small, 2, "256 of your 256"},
		{"processors for not even one", cube.Limits{CPUs: 3}, large, 0, "needs 4 processors, and you may have 3: use a smaller template"},
		{"memory for not even one", cube.Limits{MemoryMB: 100}, small, 0, "needs 128 MiB of memory, and you may have 100"},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := NewLedger(row.limits)
			var first cube.SandboxID
			for range row.fit {
				first = reserve(t, l, ada, row.need)
			}
			if row.says == "" {
				return
			}
			wantRefused(t, l, alan, row.need, row.says) // it is the team's account
			if row.fit == 0 {
				return
			}
			reserve(t, l, bob, row.need) // another account has its own
			l.Release(first)
			reserve(t, l, ada, row.need)
			wantRefused(t, l, ada, row.need, row.says)
		})
	}
}

func TestASandboxHasOnePlace(t *testing.T) {
	l := NewLedger(cube.Limits{Sandboxes: 2, CreatesPerMinute: 2})
	sandbox := cube.NewSandboxID()
	for range 5 {
		if err := l.Reserve(ada, sandbox, small); err != nil {
			t.Fatal(err)
		}
		l.Adopt(ada.Account(), sandbox, small)
	}
	second := reserve(t, l, ada, small)
	for range 5 {
		l.Release(sandbox)
	}
	if err := l.Reserve(bob, sandbox, small); err != nil {
		t.Errorf("a place that was given back: %v", err)
	}
	wantHas(t, l, map[string]int{"team:red": 1, "subject:bob": 1})
	l.Release(second)
}

func TestWhatExistsIsCountedAfterARestart(t *testing.T) {
	l := NewLedger(cube.Limits{Sandboxes: 2})
	var adopted []cube.SandboxID
	for range 3 { // one more than may be: the limit was higher before
		adopted = append(adopted, cube.NewSandboxID())
		l.Adopt(ada.Account(), adopted[len(adopted)-1], small)
	}
	wantRefused(t, l, ada, small, "3 of your 2 sandboxes")
	l.Release(adopted[0])
	wantRefused(t, l, ada, small, "2 of your 2 sandboxes")
	l.Release(adopted[1])
	reserve(t, l, ada, small)
}

func TestAnIdentitysOwnLimitsComeFirst(t *testing.T) {
	l := NewLedger(cube.Limits{Sandboxes: 1, CPUs: 2})
	own := bob
	own.Limits = cube.Limits{Sandboxes: 3}
	reserve(t, l, own, small)
	reserve(t, l, own, small)
	wantRefused(t, l, own, small, "2 of your 2 processors") // the settings' other limit
	wantRefused(t, l, bob, small, "2 of your 1 sandboxes")
}

func TestLimitsChangeForWhatComes(t *testing.T) {
	l := NewLedger(cube.Limits{Sandboxes: 2})
	reserve(t, l, ada, small)
	l.SetLimits(cube.Limits{Sandboxes: 1})
	wantRefused(t, l, ada, small, "1 of your 1")
	l.SetLimits(cube.Limits{})
	reserve(t, l, ada, small)
}

func TestCreatesPerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger(cube.Limits{Sandboxes: 7, CreatesPerMinute: 6})
		for range 6 {
			l.Release(reserve(t, l, ada, small)) // to have none is no way around it
		}
		for range 3 { // what was refused is not counted
			if e := wantRefused(t, l, alan, small, "6 sandboxes of this minute: try again in 10 s"); e.RetryAfter != 10*time.Second {
				t.Errorf("retry after %s, want 10s", e.RetryAfter)
			}
		}
		reserve(t, l, bob, small)
		time.Sleep(10 * time.Second)
		reserve(t, l, ada, small)
		wantRefused(t, l, ada, small, "try again in 10 s")

		// Without room there is no create, and none is counted.
		time.Sleep(time.Minute)
		for range 5 {
			reserve(t, l, ada, small)
		}
		l.SetLimits(cube.Limits{Sandboxes: 6, CreatesPerMinute: 6})
		for range 5 {
			wantRefused(t, l, ada, small, "6 of your 6 sandboxes")
		}
		l.SetLimits(cube.Limits{CreatesPerMinute: 6})
		reserve(t, l, ada, small)
		wantRefused(t, l, ada, small, "this minute")

		// Another measure takes the place of the one before.
		l.SetLimits(cube.Limits{CreatesPerMinute: 60})
		if e := wantRefused(t, l, ada, small, "try again in 1 s"); e.RetryAfter != time.Second {
			t.Errorf("retry after %s, want 1s", e.RetryAfter)
		}
		l.SetLimits(cube.Limits{})
		reserve(t, l, ada, small)
	})
}

func TestAccountsThatHaveNothingAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger(cube.Limits{CPUs: 2})
		account := func(n int) cube.Identity { return cube.Identity{Fingerprint: fmt.Sprint(n)} }
		for n := range 1000 {
			l.Release(reserve(t, l, account(n), small))
			wantRefused(t, l, account(n), large, "needs 4 processors")
		}
		if n := len(l.accounts); n != 0 {
			t.Errorf("%d accounts that have nothing are remembered", n)
		}
		l.SetLimits(cube.Limits{CreatesPerMinute: 1})
		for n := range 1000 {
			l.Release(reserve(t, l, account(n), small))
		}
		kept := reserve(t, l, account(1000), small)
		time.Sleep(refill)
		reserve(t, l, bob, small)
		wantHas(t, l, map[string]int{"credential:1000": 1, "subject:bob": 1})
		l.Release(kept)
		wantHas(t, l, map[string]int{"subject:bob": 1})
		if n := len(l.places); n != 1 {
			t.Errorf("%d places are taken, want 1", n)
		}
	})
}

// wantHas checks how many sandboxes each account that is remembered has.
func wantHas(t *testing.T, l *Ledger, want map[string]int) {
	t.Helper()
	has := map[string]int{}
	for name, a := range l.accounts {
		has[name] = a.sandboxes
	}
	if fmt.Sprint(has) != fmt.Sprint(want) {
		t.Errorf("accounts have %v, want %v", has, want)
	}
}

// A ledger is compared with a list of the sandboxes that have a place, through
// long random lives.
func TestALedgerIsAsTheListOfItsSandboxes(t *testing.T) {
	type sandbox struct {
		id      cube.SandboxID
		account string
		need    cube.Resources
	}
	limits := cube.Limits{Sandboxes: 5, CPUs: 9, MemoryMB: 2048}
	identities := []cube.Identity{ada, alan, bob, {}, {Key: "k"}, {Fingerprint: "k"}}
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		l := NewLedger(limits)
		var list []sandbox
		for step := range 2000 {
			s := sandbox{cube.NewSandboxID(), "", []cube.Resources{small, large, {}}[random.IntN(3)]}
			switch random.IntN(5) {
			case 0, 1:
				id := identities[random.IntN(len(identities))]
				s.account = id.Account()
				n, cpus, memory := 1, s.need.CPUs, s.need.MemoryMB
				for _, other := range list {
					if other.account == s.account {
						n, cpus, memory = n+1, cpus+other.need.CPUs, memory+other.need.MemoryMB
					}
				}
				fits := n <= limits.Sandboxes && cpus <= limits.CPUs && memory <= limits.MemoryMB
				if err := l.Reserve(id, s.id, s.need); (err == nil) != fits {
					t.Fatalf("seed %d, step %d: error = %v, with %d sandboxes, %d processors, %d MiB", seed, step, err, n, cpus, memory)
				}
				if fits {
					list = append(list, s)
				}
			case 2, 3:
				if len(list) > 0 {
					i := random.IntN(len(list))
					l.Release(list[i].id)
					l.Release(list[i].id)
					list = append(list[:i], list[i+1:]...)
				}
			case 4:
				if random.IntN(10) == 0 {
					s.account = identities[random.IntN(len(identities))].Account()
					l.Adopt(s.account, s.id, s.need)
					list = append(list, s)
				}
			}
		}
		has := map[string]int{}
		for _, s := range list {
			has[s.account]++
		}
		wantHas(t, l, has)
	}
}

func TestReadmittingIsNoCreate(t *testing.T) {
	l := NewLedger(cube.Limits{Sandboxes: 1, CreatesPerMinute: 1})
	first := reserve(t, l, ada, small)
	l.Release(first)
	for range 3 {
		if err := l.Readmit(ada.Account(), cube.Limits{}, first, small); err != nil {
			t.Fatal(err)
		}
		if err := l.Readmit(ada.Account(), cube.Limits{}, cube.NewSandboxID(), small); cube.KindOf(err) != cube.Exhausted {
			t.Errorf("a second one: %v", err)
		}
		l.Release(first)
	}
}

package gvisor

import (
	"testing"

	"cube"
)

func TestWhatSparesAreMadeFor(t *testing.T) {
	kind := func(key string) spareKind { return spareKind{key: key} }
	s := &spares{max: 2, wake: make(chan struct{}, 1)}
	start := func(key string) *spare {
		defer s.begin(kind(key))()
		return s.take(kind(key))
	}
	// settle makes and ends what next says until it says nothing.
	settle := func() (ended int) {
		for {
			missing, surplus := s.next()
			switch {
			case missing != nil:
				close(missing.made)
			case surplus != nil:
				s.forget(surplus)
				ended++
			default:
				return ended
			}
		}
	}
	have := func(want ...string) {
		t.Helper()
		var got []string
		for _, sp := range s.list {
			got = append(got, sp.kind.key)
		}
		if len(got) != len(want) {
			t.Fatalf("there are %q, not %q", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("there are %q, not %q", got, want)
			}
		}
	}

	start("a")
	settle()
	have() // what is started once may never be again, as the steps of a build
	start("a")
	settle()
	have("a", "a")
	if start("") != nil || start("b") != nil {
		t.Fatal("something was taken for what it cannot become")
	}
	settle()
	have("a", "a")
	start("b")
	if ended := settle(); ended != 1 {
		t.Errorf("%d were ended for the kind that has none, not one", ended)
	}
	have("a", "b")
	taken := start("b")
	if taken == nil || start("b") != nil {
		t.Fatal("one was not taken once")
	}
	settle()
	have("a", "b") // it is taken, and there still
	s.forget(taken)
	settle()
	have("a", "b")

	s.forget(start("b"))
	end := s.begin(kind("a"))
	settle()
	have("a") // none is made while somebody starts
	end()
	settle()
	have("a", "a")

	if ids := []cube.SandboxID{s.list[1].id}; len(s.takeAll(ids)) != 1 || len(s.takeAll(nil)) != 1 || len(s.takeAll(nil)) != 0 {
		t.Error("not each was taken once")
	}
	s.close()
	s.list = nil
	settle()
	have()
}

func TestAStartWaitsForASpareThatIsBeingMade(t *testing.T) {
	s := &spares{max: 1, wake: make(chan struct{}, 1)}
	kind := spareKind{key: "a"}
	for range spareStarts {
		s.begin(kind)()
	}
	missing, _ := s.next()
	if missing == nil || len(s.takeAll(nil)) != 0 {
		t.Fatal("none is being made, or it was taken before it was made")
	}
	if sp := s.take(kind); sp != missing {
		t.Fatalf("took %v", sp)
	}
	s.putBack(missing)
	if sp := s.take(kind); sp != missing {
		t.Errorf("took %v after it was put back", sp)
	}
}

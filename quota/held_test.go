package quota

import (
	"testing"

	"cube"
)

func TestSnapshotsAreCountedByTheirBytes(t *testing.T) {
	l := NewLedger(cube.Limits{SnapshotMB: 10})
	red, blue := "team:red", "team:blue"
	hold := func(name string, id cube.SnapshotID, mibs int64) error {
		return l.Hold(name, cube.Limits{}, id, mibs*mib)
	}
	for _, step := range []struct {
		what    string
		do      func() error
		refused bool
		held    int64 // MiB, of all
	}{
		{"the first", func() error { return hold(red, "a", 6) }, false, 6},
		{"one that is too much beside it", func() error { return hold(red, "b", 5) }, true, 6},
		{"one of unknown size, while there is room", func() error { return l.MayHold(red, cube.Limits{}, 0) }, false, 6},
		{"one that is known to be too much", func() error { return l.MayHold(red, cube.Limits{}, 5*mib) }, true, 6},
		{"another account's", func() error { return hold(blue, "c", 10) }, false, 16},
		{"one that fits", func() error { return hold(red, "b", 4) }, false, 20},
		{"one of unknown size, without room", func() error { return l.MayHold(red, cube.Limits{}, 0) }, true, 20},
		{"one larger than all of it", func() error { return hold("", "d", 11) }, true, 20},
		{"limits of one's own", func() error { return l.Hold(red, cube.Limits{SnapshotMB: 12}, "d", 2*mib) }, false, 22},
		{"a packed one leaves room", func() error { l.Resize("a", 1*mib); return hold(red, "e", 3) }, false, 20},
		{"a dropped one too, once", func() error { l.Drop("b"); l.Drop("b"); return hold(red, "f", 4) }, false, 20},
		{"what exists is counted, whatever there is", func() error { l.AdoptHeld(red, "g", 100*mib); return nil }, false, 120},
		{"what is gone grows no more", func() error { l.Drop("g"); l.Resize("g", mib); return nil }, false, 20},
	} {
		err := step.do()
		if refused := err != nil; refused != step.refused || refused && cube.KindOf(err) != cube.Exhausted {
			t.Errorf("%s: %v, want refused %v", step.what, err, step.refused)
		}
		if got := l.Held(); got != step.held*mib {
			t.Errorf("%s: %d MiB are held, want %d", step.what, got/mib, step.held)
		}
	}
	for _, id := range []cube.SnapshotID{"a", "c", "d", "e", "f"} {
		l.Drop(id)
	}
	if n := len(l.accounts); n != 0 {
		t.Errorf("%d accounts that have nothing are remembered", n)
	}
}

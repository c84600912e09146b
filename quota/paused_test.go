package quota

import (
	"strings"
	"testing"

	"cube"
)

func TestPausedSandboxesHaveALimitOfTheirOwn(t *testing.T) {
	l := NewLedger(cube.Limits{Sandboxes: 1, Paused: 2})
	account := ada.Account()
	ids := []cube.SandboxID{cube.NewSandboxID(), cube.NewSandboxID(), cube.NewSandboxID()}
	for _, id := range ids[:2] {
		for range 2 { // the second time it is counted already
			if err := l.Keep(account, cube.Limits{}, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := l.Keep(account, cube.Limits{}, ids[2])
	if cube.KindOf(err) != cube.Exhausted || !strings.Contains(err.Error(), "2 of your 2 paused") {
		t.Errorf("a third one: %v", err)
	}
	if err := l.Keep(bob.Account(), cube.Limits{}, cube.NewSandboxID()); err != nil {
		t.Errorf("another's: %v", err)
	}
	if err := l.Keep(account, cube.Limits{Paused: 3}, ids[2]); err != nil {
		t.Errorf("with a limit of its own: %v", err)
	}
	l.AdoptKept(account, cube.NewSandboxID()) // however many there are
	for _, id := range ids {
		l.Unkeep(id)
		l.Unkeep(id)
	}
	if a := l.accounts[account]; a == nil || a.paused != 1 {
		t.Errorf("the account has %+v, want one paused sandbox", a)
	}
	// They are not counted among those that run.
	reserve(t, l, ada, small)
}

func TestAnAccountWithNothingIsForgotten(t *testing.T) {
	l := NewLedger(cube.Limits{})
	id := cube.NewSandboxID()
	l.AdoptKept("a", id)
	l.Unkeep(id)
	if len(l.accounts) != 0 || len(l.kept) != 0 {
		t.Errorf("%d accounts and %d sandboxes are remembered", len(l.accounts), len(l.kept))
	}
}

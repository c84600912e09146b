package journal

import (
	"strconv"
	"testing"

	"cube/network/gate"
)

func TestTheNewestAreKept(t *testing.T) {
	j := New()
	defer j.Close()
	for i := range Each + 10 {
		j.Add(gate.Event{Sandbox: "a", Name: strconv.Itoa(i), Allowed: i%2 == 0})
	}
	j.Add(gate.Event{Sandbox: "b", Name: "other"})
	got := j.Newest("a", Each+10, false)
	if len(got) != Each || got[0].Name != strconv.Itoa(Each+9) || got[Each-1].Name != "10" {
		t.Errorf("there are %d, from %s to %s", len(got), got[0].Name, got[len(got)-1].Name)
	}
	if got := j.Newest("a", 2, true); len(got) != 2 || got[0].Name != strconv.Itoa(Each+9) || got[1].Name != strconv.Itoa(Each+7) {
		t.Errorf("of the denied there are %+v", got)
	}
	if got := j.Newest("c", 10, false); len(got) != 0 {
		t.Errorf("of nobody there are %+v", got)
	}
}

func TestOneSandboxDoesNotFillTheAuditLog(t *testing.T) {
	j := New()
	defer j.Close()
	written := 0
	for range 100 * writeBurst {
		if j.Add(gate.Event{Sandbox: "a"}) {
			written++
		}
	}
	if written < writeBurst || written > 50*writeBurst {
		t.Errorf("of %d events %d are written", 100*writeBurst, written)
	}
	if !j.Add(gate.Event{Sandbox: "b"}) {
		t.Error("another sandbox's is not")
	}
}

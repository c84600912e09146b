package lifecycle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"cube"
)

// retention is short, as time in a bubble costs something too.
const retention = time.Hour

// wantPaused checks that a sandbox is paused still.
func wantPaused(t *testing.T, s *Sandboxes, id cube.SandboxID) {
	t.Helper()
	if row, err := s.Get(t.Context(), id); err != nil || row.State != cube.Paused {
		t.Errorf("it is %+v, %v; want it paused", row, err)
	}
}

// wantRetired checks that a sandbox ended for it was paused too long.
func (w *world) wantRetired(s *Sandboxes, id cube.SandboxID) {
	w.t.Helper()
	_, err := s.Get(w.t.Context(), id)
	wantEnded(w.t, err, cube.EndDeadline)
	if err != nil && !strings.Contains(err.Error(), "paused for longer") {
		w.t.Errorf("the error does not say why: %v", err)
	}
	w.wantEnd(id, cube.EndDeadline)
	w.wantNothingLeft()
}

func TestAPausedSandboxIsKeptForTheRetention(t *testing.T) {
	pause := func(memory bool) func(*testing.T, *world, *Sandboxes, cube.SandboxID) {
		return func(t *testing.T, _ *world, s *Sandboxes, id cube.SandboxID) { mustPause(t, s, id, memory) }
	}
	for name, pause := range map[string]func(*testing.T, *world, *Sandboxes, cube.SandboxID){
		"with its memory": pause(true),
		"with its files":  pause(false),
		"by its deadline": func(*testing.T, *world, *Sandboxes, cube.SandboxID) { after(simple().Timeout) },
		"from its last pause on": func(t *testing.T, _ *world, s *Sandboxes, id cube.SandboxID) {
			mustPause(t, s, id, true)
			after(retention - time.Minute)
			mustConnect(t, s, id)
			mustPause(t, s, id, true)
		},
		"though a resume failed": func(t *testing.T, w *world, s *Sandboxes, id cube.SandboxID) {
			mustPause(t, s, id, true)
			w.engine.OnStart = func(context.Context, cube.StartRequest) error { return errors.New("on purpose") }
			_, _, err := s.Connect(t.Context(), id, time.Minute, true)
			wantKind(t, err, cube.Internal)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.config.PausedRetention = retention
				s := w.server()
				id := mustCreate(t, s, waking).ID
				pause(t, w, s, id)
				after(retention - time.Millisecond)
				wantPaused(t, s, id)
				after(time.Millisecond)
				w.wantRetired(s, id)
			})
		})
	}
}

func TestWithoutARetentionAPausedSandboxIsKeptForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s).ID
		mustPause(t, s, id, true)
		after(retention)
		s.Close()
		after(retention)
		s = w.server()
		after(retention)
		wantPaused(t, s, id)
		mustConnect(t, s, id)
	})
}

func TestARetentionHoldsAcrossServers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		old, young := mustCreate(t, s).ID, mustCreate(t, s).ID
		mustPause(t, s, old, true)
		after(4 * time.Minute)
		mustPause(t, s, young, true)
		s.Close()

		w.config.PausedRetention = retention // set later than the pauses
		after(retention - time.Minute)
		s = w.server()
		after(time.Second)
		w.wantEnd(old, cube.EndDeadline) // it passed during the outage
		wantPaused(t, s, young)
		after(2 * time.Minute)
		w.wantRetired(s, young)
	})
}

func TestASandboxThatIsResumedAsItsRetentionEndsRunsOn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.PausedRetention = retention
		s := w.server()
		id := mustCreate(t, s).ID
		mustPause(t, s, id, true)
		after(retention - time.Second)
		w.engine.OnStart = func(context.Context, cube.StartRequest) error {
			time.Sleep(2 * time.Second)
			return nil
		}
		mustConnect(t, s, id)
		after(30 * time.Second)
		if row, err := s.Get(t.Context(), id); err != nil || row.State != cube.Running {
			t.Errorf("it is %+v, %v; want it running", row, err)
		}
		after(time.Minute)
		w.wantEnd(id, cube.EndDeadline)
	})
}

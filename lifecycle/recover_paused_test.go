package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

// TestRecoverFinishesOrUndoesAPause leaves what a server that died at each stage
// of a pause or a resume would have left.
func TestRecoverFinishesOrUndoesAPause(t *testing.T) {
	for _, test := range []struct {
		state       cube.State
		runs, whole bool
		want        cube.State // Gone: ended as lost
	}{
		{cube.Pausing, true, false, cube.Running},
		{cube.Pausing, true, true, cube.Running},
		{cube.Pausing, false, true, cube.Paused},
		{cube.Pausing, false, false, cube.Gone},
		{cube.Paused, true, true, cube.Paused},
		{cube.Paused, false, true, cube.Paused},
		{cube.Resuming, true, true, cube.Paused},
		{cube.Resuming, false, true, cube.Paused},
	} {
		t.Run(fmt.Sprintf("%s, runs %t, whole %t", test.state, test.runs, test.whole), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				id := w.leave(test.state, true)
				row := w.rows(test.state)[0]
				// The agent has the settings of its time, and the sandbox is frozen.
				if err := initAgent(t.Context(), w.engine, row, ""); err != nil {
					t.Fatal(err)
				}
				w.engine.Write(id, "line")
				if _, err := w.engine.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: row.Snapshot, Memory: true}); err != nil {
					t.Fatal(err)
				}
				if !test.whole {
					if err := w.engine.Discard(t.Context(), row.Snapshot); err != nil {
						t.Fatal(err)
					}
				}
				if !test.runs {
					w.engine.Die(id, cube.Exit{})
				}
				s := w.server()
				synctest.Wait()
				switch test.want {
				case cube.Gone:
					w.wantEnd(id, cube.EndLost)
					w.wantNothingLeft()
					return
				case cube.Running:
					if w.engine.Frozen(id) {
						t.Error("it does not run on")
					}
					wantEqual(t, "its files", w.engine.Files(id), []string{"line"})
					w.wantSnapshots(0)
					w.wantAdopted(s, id)
				case cube.Paused:
					if row, err := s.Get(t.Context(), id); err != nil || row.State != cube.Paused {
						t.Fatalf("it is %+v, %v", row, err)
					}
					if left := w.machine(); len(left) > 0 {
						t.Errorf("the engine still has %v", left)
					}
					w.wantSnapshots(1)
					if n := s.Gauges().Running; n != 0 {
						t.Errorf("%d are counted", n)
					}
					mustConnect(t, s, id)
					wantEqual(t, "its files", w.engine.Files(id), []string{"line"})
				}
			})
		})
	}
}

// TestASandboxThatResistsKeepsNobodyFromTheirServer has one that was frozen when
// the last server died, and cannot be thawed at first.
func TestASandboxThatResistsKeepsNobodyFromTheirServer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id, killed, other := mustCreate(t, s).ID, mustCreate(t, s).ID, mustCreate(t, s).ID
		for snapshot, id := range map[cube.SnapshotID]cube.SandboxID{"sone": id, "stwo": killed} {
			if _, err := w.engine.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: snapshot, Memory: true}); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		var thaws atomic.Bool
		w.engine.OnThaw = func(asked cube.SandboxID) error {
			if asked == other || asked == id && thaws.Load() {
				return nil
			}
			return errors.New("its kernel does not answer")
		}
		s = w.server()
		for _, id := range []cube.SandboxID{other, killed} {
			if err := s.Kill(t.Context(), id, "test"); err != nil {
				t.Errorf("killing %s: %v", id, err)
			}
		}
		thaws.Store(true)
		time.Sleep(2 * lastRetry)
		if w.engine.Frozen(id) {
			t.Error("it does not run on")
		}
		w.wantAdopted(s, id)
	})
}

func TestASnapshotThatThisMachineCannotReadIsSaidToBe(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s).ID
		mustPause(t, s, id, true)
		w.engine.OnStart = func(context.Context, cube.StartRequest) error {
			return cube.Errorf(cube.Unsupported, "its memory was kept by another gVisor")
		}
		_, _, err := s.Connect(t.Context(), id, time.Minute, true)
		wantKind(t, err, cube.Unsupported)
		if row, err := s.Get(t.Context(), id); err != nil || row.State != cube.Paused {
			t.Errorf("it is %+v, %v", row, err)
		}
	})
}

func TestSnapshotsThatNobodyNamesAreSwept(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s).ID
		kept := mustKeep(t, s, id, "mine")
		if _, err := w.engine.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: id, Snapshot: "sleft", Memory: true}); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s = w.server()
		synctest.Wait()
		w.wantSnapshots(1)
		if w.engine.Frozen(id) {
			t.Error("a sandbox that was being kept does not run on")
		}
		mustCreate(t, s, func(r *CreateRequest) { r.Template = string(kept.ID) })
	})
}

func TestADeadlineThatPassedDuringAnOutagePauses(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s, waking).ID
		s.Close()
		time.Sleep(time.Hour)
		s = w.server()
		synctest.Wait()
		if row, err := s.Get(t.Context(), id); err != nil || row.State != cube.Paused {
			t.Errorf("it is %+v, %v", row, err)
		}
	})
}

func TestAServerThatStopsLeavesAPauseForLater(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s).ID
		begun := make(chan struct{})
		w.engine.OnCheckpoint = func(ctx context.Context, _ cube.CheckpointRequest) error {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		}
		failed := make(chan error)
		go func() { failed <- s.Pause(context.Background(), id, true) }()
		<-begun
		s.Close()
		wantKind(t, <-failed, cube.Unavailable)
		w.engine.OnCheckpoint = nil
		w.wantAdopted(w.server(), id)
	})
}

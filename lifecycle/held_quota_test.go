package lifecycle

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

// The engine of these tests keeps each sandbox in a MiB.
const kept = 1 << 20

func TestSnapshotsTakeNoMoreOfTheDiskThanTheirAccountMay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.quotaOf(cube.Limits{SnapshotMB: 2})
		s := w.server()
		first, second := createAs(t, s, ada), createAs(t, s, ada)
		if err := s.Pause(as(t, ada), first.ID, true); err != nil {
			t.Fatal(err)
		}
		snapshot, err := s.CreateSnapshot(as(t, alan), second.ID, "") // of the same team
		if err != nil {
			t.Fatal(err)
		}
		wantFull := func(what string) {
			t.Helper()
			synctest.Wait()
			wantKind(t, s.Pause(as(t, ada), second.ID, true), cube.Exhausted)
			_, err := s.CreateSnapshot(as(t, ada), second.ID, "")
			wantKind(t, err, cube.Exhausted)
			_, err = s.Fork(as(t, ada), second.ID, 1, time.Minute)
			wantKind(t, err, cube.Exhausted)
			synctest.Wait()
			w.wantSnapshots(2)
			if got := s.Gauges().SnapshotBytes; got != 2*kept {
				t.Errorf("%s: %d bytes are counted, want %d", what, got, 2*kept)
			}
			if row := w.row(second.ID); row.State != cube.Running || row.Snapshot != "" || w.engine.Frozen(second.ID) {
				t.Errorf("%s: the one that was refused is %+v", what, row)
			}
		}
		wantFull("at first")
		if other := createAs(t, s, bob); s.Pause(as(t, bob), other.ID, true) != nil {
			t.Error("another account's is refused")
		} else if err := s.Kill(as(t, bob), other.ID, "x"); err != nil {
			t.Error(err)
		}
		s.Close()

		w.quotaOf(cube.Limits{SnapshotMB: 2})
		s = w.server()
		wantFull("after a restart")
		if err := s.DeleteSnapshot(as(t, ada), string(snapshot.ID)); err != nil {
			t.Fatal(err)
		}
		if forks, err := s.Fork(as(t, ada), second.ID, 1, time.Minute); err != nil || forks[0].Err != nil {
			t.Fatalf("with room for a moment: %v %v", err, forks)
		}
		synctest.Wait() // its snapshot is gone
		if err := s.Pause(as(t, ada), second.ID, true); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resume(as(t, ada), first.ID, time.Minute, nil, true); err != nil {
			t.Fatal(err)
		}
		if err := s.Pause(as(t, ada), first.ID, true); err != nil {
			t.Errorf("after it was resumed: %v", err)
		}
		if err := s.Kill(as(t, ada), first.ID, "x"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := s.Gauges().SnapshotBytes; got != kept {
			t.Errorf("at the end %d bytes are counted, want %d", got, kept)
		}
	})
}

// What turns out to be too large is undone, and a deadline is tried again without
// all of the memory being written each time.
func TestASandboxForWhoseSnapshotThereIsNoRoomRunsOn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.quotaOf(cube.Limits{SnapshotMB: 2})
		checkpoints := 0
		w.engine.OnCheckpoint = func(context.Context, cube.CheckpointRequest) error {
			if checkpoints++; checkpoints == 1 {
				w.config.Quota.AdoptHeld("team:red", "others", 3*kept/2)
			}
			return nil
		}
		s := w.server()
		request := simple()
		request.Expiry = cube.Expiry{Pause: true, Memory: true}
		created, err := s.Create(as(t, ada), request)
		if err != nil {
			t.Fatal(err)
		}
		after(request.Timeout)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if row := w.row(created.Sandbox.ID); row.State != cube.Running || w.engine.Frozen(row.ID) || checkpoints != 1 {
			t.Errorf("after its deadline it is %s, after %d checkpoints", row.State, checkpoints)
		}
		w.wantSnapshots(0)
		w.config.Quota.Drop("others")
		time.Sleep(time.Minute)
		synctest.Wait()
		if row := w.row(created.Sandbox.ID); row.State != cube.Paused {
			t.Errorf("once there is room it is %s", row.State)
		}
	})
}

func (w *world) row(id cube.SandboxID) cube.Sandbox {
	w.t.Helper()
	row, err := w.store.Sandbox(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return row
}

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"cube"
)

func mustKeep(t *testing.T, s *Sandboxes, id cube.SandboxID, name string) cube.Snapshot {
	t.Helper()
	snapshot, err := s.CreateSnapshot(t.Context(), id, name)
	if err != nil {
		t.Fatalf("keeping: %v", err)
	}
	return snapshot
}

func TestASandboxStartsFromASnapshotAsSomebodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		parent := mustCreate(t, s, private, func(r *CreateRequest) { r.EnvVars = map[string]string{"A": "1", "B": "1"} })
		w.engine.Write(parent.ID, "then")
		snapshot := mustKeep(t, s, parent.ID, "Mine:v1")
		if w.engine.Frozen(parent.ID) {
			t.Error("the parent does not run on")
		}
		w.engine.Write(parent.ID, "now")
		for _, name := range []string{"mine:v1", string(snapshot.ID) + ":v1", string(snapshot.ID)} {
			if name == string(snapshot.ID) {
				snapshot = mustKeep(t, s, parent.ID, "") // without a tag it is the default one
				name = string(snapshot.ID)
			}
			child := mustCreate(t, s, private, func(r *CreateRequest) {
				r.Template, r.EnvVars = name, map[string]string{"B": "2"}
			})
			if child.ID == parent.ID || child.HostKey == parent.HostKey || child.AccessToken == parent.AccessToken || child.TrafficToken == parent.TrafficToken {
				t.Errorf("the child has a secret of its parent's: %+v", child)
			}
			settings, _ := w.engine.Settings(child.ID)
			wantEqual(t, "its environment", settings.EnvVars, map[string]string{"A": "1", "B": "2"})
			if settings.AccessToken != child.AccessToken || settings.SandboxID != child.ID {
				t.Errorf("its agent has the settings %+v", settings)
			}
			if files := w.engine.Files(child.ID); files[0] != "then" {
				t.Errorf("its files are %q", files)
			}
		}
	})
}

func TestSnapshotsAreNamedReplacedAndDeleted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		id := mustCreate(t, s).ID
		old := mustKeep(t, s, id, "mine")
		tagged := mustKeep(t, s, id, "mine:v2")
		latest := mustKeep(t, s, id, "mine:default")
		synctest.Wait()
		w.wantSnapshots(2)
		for name, want := range map[string]cube.SnapshotID{"mine": latest.ID, "mine:v2": tagged.ID, string(latest.ID): latest.ID} {
			if got, err := s.findSnapshot(t.Context(), name); err != nil || got.ID != want {
				t.Errorf("%s is %v, %v; want %v", name, got.ID, err, want)
			}
		}
		if _, err := s.findSnapshot(t.Context(), string(old.ID)); cube.KindOf(err) != cube.NotFound {
			t.Errorf("the replaced one: %v", err)
		}
		for _, name := range []string{"mine", "mine:v2"} {
			if err := s.DeleteSnapshot(t.Context(), name); err != nil {
				t.Error(err)
			}
			wantKind(t, s.DeleteSnapshot(t.Context(), name), cube.NotFound)
		}
		wantKind(t, s.DeleteSnapshot(t.Context(), "base"), cube.Forbidden)
		synctest.Wait()
		w.wantSnapshots(0)
	})
}

func TestPagesOfSnapshots(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		a, b := mustCreate(t, s).ID, mustCreate(t, s).ID
		var want []cube.SnapshotID
		for i := range 5 {
			time.Sleep(time.Second)
			id := a
			if i == 0 {
				id = b
			}
			want = append([]cube.SnapshotID{mustKeep(t, s, id, fmt.Sprintf("n%d", i)).ID}, want...)
		}
		var got []cube.SnapshotID
		for q := (SnapshotQuery{Limit: 2}); ; {
			page, next, err := s.ListSnapshots(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, snapshot := range page {
				got = append(got, snapshot.ID)
			}
			if q.Cursor = next; next == "" {
				break
			}
		}
		wantEqual(t, "all pages", got, want)
		for _, q := range []SnapshotQuery{{Sandbox: b, Limit: 9}, {Name: "n0", Limit: 9}, {Name: string(want[4]), Limit: 9}} {
			if page, _, err := s.ListSnapshots(t.Context(), q); err != nil || len(page) != 1 || page[0].ID != want[4] {
				t.Errorf("%+v: %v, %v", q, page, err)
			}
		}
	})
}

func TestSnapshotsBelongToATenant(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.Tenancy = cube.TenancyTeam
		s := w.server()
		create := func(caller cube.Identity, template string) (cube.Sandbox, error) {
			req := simple()
			req.Template = template
			created, err := s.Create(as(t, caller), req)
			return created.Sandbox, err
		}
		reds, err := create(ada, "base")
		if err != nil {
			t.Fatal(err)
		}
		snapshot, err := s.CreateSnapshot(as(t, ada), reds.ID, "ours")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ours", string(snapshot.ID)} {
			if _, err := create(alan, name); err != nil {
				t.Errorf("another of the team: %v", err)
			}
			_, err := create(bob, name)
			wantKind(t, err, cube.NotFound)
			wantKind(t, s.DeleteSnapshot(as(t, bob), name), cube.NotFound)
			wantKind(t, s.DeleteSnapshot(as(t, stranger), name), cube.Forbidden)
		}
		page, _, err := s.ListSnapshots(as(t, bob), SnapshotQuery{Limit: 9})
		if err != nil || len(page) != 0 {
			t.Errorf("another team's list: %v, %v", page, err)
		}
		blues, err := create(bob, "base")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateSnapshot(as(t, bob), blues.ID, "ours"); err != nil { // the same name is another's
			t.Error(err)
		}
		if _, err := s.findSnapshot(as(t, ada), "ours"); err != nil {
			t.Errorf("after another team took the name: %v", err)
		}
	})
}

func TestForkedChildrenShareNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		parent := mustCreate(t, s, private)
		w.engine.Write(parent.ID, "line")
		children, err := s.Fork(t.Context(), parent.ID, 10, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		secrets := map[string]bool{parent.HostKey: true, parent.AccessToken: true, parent.TrafficToken: true}
		for _, child := range children {
			if child.Err != nil {
				t.Fatal(child.Err)
			}
			c := child.Sandbox
			for _, secret := range []string{c.HostKey, c.AccessToken, c.TrafficToken} {
				if secret == "" || secrets[secret] {
					t.Errorf("a secret of %s is empty, or another's too", c.ID)
				}
				secrets[secret] = true
			}
			wantEqual(t, "its files", w.engine.Files(c.ID), []string{"line"})
			if w.engine.Boot(c.ID) != w.engine.Boot(parent.ID) || !c.EndAt.Equal(now().Add(time.Minute)) {
				t.Errorf("the child %+v has not its parent's memory, or not its time", c)
			}
		}
		synctest.Wait()
		w.wantSnapshots(0)
		if w.engine.Frozen(parent.ID) {
			t.Error("the parent does not run on")
		}
	})
}

func TestEachForkedChildFailsForItself(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.MaxSandboxes = 3
		s := w.server()
		parent := mustCreate(t, s)
		children, err := s.Fork(t.Context(), parent.ID, 4, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		made := 0
		for _, child := range children {
			if child.Err == nil {
				made++
				continue
			}
			wantKind(t, child.Err, cube.Exhausted)
		}
		if made != 2 {
			t.Errorf("%d children, want 2", made)
		}
		w.engine.OnCheckpoint = func(context.Context, cube.CheckpointRequest) error { return errors.New("on purpose") }
		_, err = s.Fork(t.Context(), parent.ID, 1, time.Minute)
		wantKind(t, err, cube.Internal)
		synctest.Wait()
		w.wantSnapshots(0)
		if row, err := s.Get(t.Context(), parent.ID); err != nil || row.State != cube.Running || w.engine.Frozen(parent.ID) {
			t.Errorf("the parent: %+v, %v", row, err)
		}
	})
}

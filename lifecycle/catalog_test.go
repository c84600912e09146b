package lifecycle

import (
	"cmp"
	"context"
	"testing"
	"time"

	"cube"
)

// oneTemplate is a Catalog with one template.
type oneTemplate struct {
	template cube.Template
	spawned  int
}

func (c *oneTemplate) Find(_ context.Context, name string) (cube.Template, error) {
	if name != "mine" {
		return cube.Template{}, cube.Errorf(cube.NotFound, "none")
	}
	return c.template, nil
}

func (c *oneTemplate) Spawned(cube.TemplateID) { c.spawned++ }

func (c *oneTemplate) Snapshots(context.Context) (map[cube.SnapshotID]bool, error) {
	return map[cube.SnapshotID]bool{c.template.Snapshot: true}, nil
}

func TestSandboxesHaveWhatTheirTemplateGivesThem(t *testing.T) {
	w := newWorld(t)
	maker := w.server()
	first, err := maker.Create(t.Context(), CreateRequest{Template: "base", Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	kept := cube.NewSnapshotID()
	if _, err := w.engine.Checkpoint(t.Context(), cube.CheckpointRequest{Sandbox: first.Sandbox.ID, Snapshot: kept, Memory: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.engine.Thaw(t.Context(), first.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	maker.Close()

	catalog := &oneTemplate{template: cube.Template{
		ID: "tmine", Aliases: []string{"mine"}, Snapshot: kept, HostKey: first.Sandbox.HostKey,
		Resources: cube.Resources{CPUs: 2, MemoryMB: 512, DiskMB: 1024, Pids: 4096},
		Defaults:  cube.Defaults{EnvVars: map[string]string{"A": "template", "B": "template"}, User: "ada", Workdir: "/app"},
	}}
	w.config.Catalog = catalog
	s := w.server() // a template's snapshot stays
	has := func(what string, id cube.SandboxID) {
		t.Helper()
		settings, _ := w.engine.Settings(id)
		if settings.DefaultUser != "ada" || settings.Workdir != "/app" || settings.EnvVars["A"] != "template" || settings.EnvVars["B"] != "own" {
			t.Errorf("%s has %+v", what, settings)
		}
	}
	created, err := s.Create(t.Context(), CreateRequest{Template: "mine", Timeout: time.Hour, EnvVars: map[string]string{"B": "own"}})
	if err != nil {
		t.Fatal(err)
	}
	id := created.Sandbox.ID
	has("a sandbox", id)
	if created.Sandbox.Template != "tmine" || created.Sandbox.Alias != "mine" || created.Sandbox.Resources != catalog.template.Resources || catalog.spawned != 1 {
		t.Errorf("it is %+v, and %d were counted", created.Sandbox, catalog.spawned)
	}
	if running, paused := s.Uses("tmine"); !running || paused {
		t.Errorf("its template is used by running ones %v, paused ones %v", running, paused)
	}
	children, err := s.Fork(t.Context(), id, 1, time.Hour)
	if err != nil || children[0].Err != nil {
		t.Fatal(err, children)
	}
	has("a fork", children[0].Sandbox.ID)
	snapshot, err := s.CreateSnapshot(t.Context(), id, "kept")
	if err != nil {
		t.Fatal(err)
	}
	of, err := s.Create(t.Context(), CreateRequest{Template: string(snapshot.ID), Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	has("one of its snapshot", of.Sandbox.ID)
	if _, err := s.CreateSnapshot(t.Context(), id, "mine"); cube.KindOf(err) != cube.Conflict {
		t.Errorf("a snapshot of a template's name: %v", err)
	}
}

// A template that becomes another, with the same snapshot, has nothing waiting any
// more, even if nobody has said so to the pool.
func TestWhatWaitsForATemplateIsAsItIsNow(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		catalog := &oneTemplate{template: cube.Template{ID: "tmine", Snapshot: cube.BaseSnapshot, Resources: cube.Resources{CPUs: 1, MemoryMB: 128, DiskMB: 64, Pids: 64}}}
		w.config.Catalog, w.config.PoolSize, w.config.Tenancy = catalog, 1, cube.TenancyTeam
		s := w.server()
		s.FillPool("mine")
		wait()
		create := func() string {
			t.Helper()
			created, err := s.Create(as(t, ada), CreateRequest{Template: "mine", Timeout: time.Hour, Secure: true, Internet: true})
			if err != nil {
				t.Fatal(err)
			}
			settings, _ := w.engine.Settings(created.Sandbox.ID)
			return settings.DefaultUser + settings.Workdir + settings.EnvVars["A"]
		}
		spare := w.machine()
		if len(spare) != 1 {
			t.Fatalf("the machine has %v before anybody has asked", spare)
		}
		create()
		if _, err := s.Get(as(t, ada), spare[0].ID); err != nil {
			t.Errorf("what waited was not claimed: %v", err)
		}
		for _, defaults := range []cube.Defaults{{User: "bob"}, {Workdir: "/srv"}, {EnvVars: map[string]string{"A": "b"}}, {}} {
			wait()
			catalog.template.Defaults = defaults
			if got, want := create(), cmp.Or(defaults.User, "user")+defaults.Workdir+defaults.EnvVars["A"]; got != want {
				t.Errorf("with the defaults %+v one has %q", defaults, got)
			}
		}
	})
}

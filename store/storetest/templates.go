package storetest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cube"
)

// RunTemplates runs the suite of cube.TemplateStore, as Run does that of cube.Store.
func RunTemplates(t *testing.T, open func(t *testing.T) cube.TemplateStore) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, cube.TemplateStore)
	}{
		{"a template comes back with its aliases and its newest build", templateComesBack},
		{"an alias is held once in a namespace", aliasOnce},
		{"a list of templates has only what is asked for, in pages", listOfTemplates},
		{"a build that is ready has its tags, those assigned later excepted", buildBecomesTagged},
		{"of many updates of a build from one status one wins", oneBuildUpdateWins},
		{"a template is deleted once, and names what it held", templateDeletedOnce},
		{"builds without a tag are dropped, the newest excepted", oldBuildsDropped},
		{"a build's log is read from both ends", buildLogRead},
		{"layers are found, replaced and dropped by their use", layersKept},
		{"sandboxes of a template are counted", spawnsCounted},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func templateNo(n int) cube.UserTemplate {
	at := morning.Add(time.Duration(n) * time.Second)
	return cube.UserTemplate{
		ID: cube.TemplateID(fmt.Sprintf("t%d", n)), Owner: cube.Owner{Subject: "ada", Team: "red"}, Account: "red",
		Namespace: "red", Aliases: []string{fmt.Sprintf("alias-%d", n)}, CreatedAt: at, UpdatedAt: at,
	}
}

// buildNo returns the n-th build, of the template that is said.
func buildNo(n int, template cube.TemplateID) cube.Build {
	at := morning.Add(time.Duration(n) * time.Second)
	return cube.Build{
		ID: cube.BuildID(fmt.Sprintf("b%d", n)), Template: template, Tags: []string{"default", "v1"}, Status: cube.BuildWaiting,
		Resources: cube.Resources{CPUs: 2, MemoryMB: 512, DiskMB: 1024, Pids: 64}, CreatedAt: at, UpdatedAt: at,
	}
}

// ready returns a build once it is ready.
func ready(b cube.Build) cube.Build {
	b.Status, b.FinishedAt = cube.BuildReady, b.CreatedAt.Add(time.Minute)
	b.Spec, b.Base = `{"From":"x"}`, `{}`
	b.Snapshot, b.Memory, b.HostKey, b.BaseSnapshot = "s"+cube.SnapshotID(b.ID), true, "key", "base-"+cube.SnapshotID(b.ID)
	b.Defaults = cube.Defaults{EnvVars: map[string]string{"A": "b"}, User: "ada", Workdir: "/srv"}
	return b
}

func addBuild(t *testing.T, s cube.TemplateStore, template cube.UserTemplate, b cube.Build) cube.Build {
	t.Helper()
	if err := s.CreateBuild(t.Context(), template, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func finishBuild(t *testing.T, s cube.TemplateStore, b cube.Build) cube.Build {
	t.Helper()
	b = ready(b)
	if err := s.UpdateBuild(t.Context(), cube.BuildWaiting, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func wantTagged(t *testing.T, s cube.TemplateStore, id cube.TemplateID, tag string, want cube.BuildID) {
	t.Helper()
	if got, err := s.BuildByTag(t.Context(), id, tag); got.ID != want || (err != nil) != (want == "") {
		t.Errorf("%s stands for %q, %v; want %q", tag, got.ID, err, want)
	}
}

func templateComesBack(t *testing.T, s cube.TemplateStore) {
	want := templateNo(1)
	addBuild(t, s, want, buildNo(1, want.ID))
	again := want
	again.UpdatedAt = morning.Add(time.Hour)
	want.UpdatedAt, want.BuildCount = again.UpdatedAt, 2
	want.Latest = addBuild(t, s, again, buildNo(2, want.ID))
	wantKind(t, s.CreateBuild(t.Context(), again, buildNo(2, want.ID)), cube.Conflict)
	byID, err := s.UserTemplate(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	byAlias, err := s.TemplateByAlias(t.Context(), "red", "alias-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []cube.UserTemplate{byID, byAlias} {
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the row (-want +got):\n%s", diff)
		}
	}
	finished := finishBuild(t, s, want.Latest)
	if got, err := s.Build(t.Context(), finished.ID); err != nil || !cmp.Equal(finished, got, cmpopts.EquateEmpty()) {
		t.Errorf("the build (-want +got):\n%s%v", cmp.Diff(finished, got, cmpopts.EquateEmpty()), err)
	}
	if err := s.SetTemplatePublic(t.Context(), want.ID, true, morning); err != nil {
		t.Error(err)
	}
	if got, _ := s.UserTemplate(t.Context(), want.ID); !got.Public || !got.UpdatedAt.Equal(morning) {
		t.Errorf("made public: %+v", got)
	}
	for _, err := range []error{
		second(s.UserTemplate(t.Context(), "none")), second(s.TemplateByAlias(t.Context(), "", "alias-1")), second(s.Build(t.Context(), "none")),
		s.SetTemplatePublic(t.Context(), "none", true, morning), s.TagBuild(t.Context(), "none", "b1", []string{"x"}, morning),
	} {
		wantKind(t, err, cube.NotFound)
	}
	if unfinished, err := s.UnfinishedBuilds(t.Context()); err != nil || len(unfinished) != 1 || unfinished[0].ID != "b1" {
		t.Errorf("unfinished: %v, %v", unfinished, err)
	}
}

func second[T any](_ T, err error) error { return err }

func aliasOnce(t *testing.T, s cube.TemplateStore) {
	addBuild(t, s, templateNo(1), buildNo(1, "t1"))
	thief := templateNo(2)
	thief.Aliases = []string{"alias-2", "alias-1"}
	wantKind(t, s.CreateBuild(t.Context(), thief, buildNo(2, "t2")), cube.Conflict)
	wantKind(t, second(s.UserTemplate(t.Context(), "t2")), cube.NotFound)
	thief.Namespace = "blue"
	addBuild(t, s, thief, buildNo(2, "t2"))
}

func listOfTemplates(t *testing.T, s cube.TemplateStore) {
	for n := 1; n <= 3; n++ {
		row := templateNo(n)
		if n == 2 {
			row.Owner, row.Account, row.Namespace = cube.Owner{Subject: "bob", Team: "blue"}, "blue", "blue"
		}
		addBuild(t, s, row, buildNo(n, row.ID))
	}
	for want, q := range map[string]cube.TemplateQuery{
		"t3 t2 t1": {}, "t3 t2": {Limit: 2}, "t3 t1": {Owner: cube.Owner{Team: "red"}}, "t2": {Owner: cube.Owner{Subject: "bob"}},
		"t1": {After: &cube.TemplateCursor{CreatedAt: templateNo(2).CreatedAt, ID: "t2"}},
	} {
		rows, err := s.ListTemplates(t.Context(), q)
		var got []string
		for _, row := range rows {
			got = append(got, string(row.ID))
		}
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%+v lists %v, %v; want %s", q, got, err, want)
		}
	}
	if n, err := s.CountTemplates(t.Context(), "red"); n != 2 || err != nil {
		t.Errorf("red has %d, %v; want 2", n, err)
	}
}

func buildBecomesTagged(t *testing.T, s cube.TemplateStore) {
	first := addBuild(t, s, templateNo(1), buildNo(1, "t1"))
	newer := addBuild(t, s, templateNo(1), buildNo(2, "t1"))
	wantTagged(t, s, "t1", "default", "")
	finishBuild(t, s, newer)
	finishBuild(t, s, first)
	wantTagged(t, s, "t1", "default", newer.ID)
	if err := s.TagBuild(t.Context(), "t1", first.ID, []string{"v1", "old"}, morning.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	wantTagged(t, s, "t1", "v1", first.ID)
	wantTagged(t, s, "t1", "old", first.ID)
	if err := s.Untag(t.Context(), "t1", []string{"old", "none"}); err != nil {
		t.Fatal(err)
	}
	tags, err := s.Tags(t.Context(), "t1")
	if err != nil || len(tags) != 2 || tags[0].Name != "v1" || tags[0].Build != first.ID || !tags[0].AssignedAt.Equal(morning.Add(time.Hour)) {
		t.Errorf("tags: %v, %v", tags, err)
	}
}

func oneBuildUpdateWins(t *testing.T, s cube.TemplateStore) {
	b := addBuild(t, s, templateNo(1), buildNo(1, "t1"))
	b.Status = cube.BuildBuilding
	wantKind(t, s.UpdateBuild(t.Context(), cube.BuildWaiting, buildNo(9, "t1")), cube.NotFound)
	var won atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			switch err := s.UpdateBuild(t.Context(), cube.BuildWaiting, b); {
			case err == nil:
				won.Add(1)
			case cube.KindOf(err) != cube.Conflict:
				t.Errorf("updating: %v", err)
			}
		})
	}
	group.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d updates succeeded, want 1", n)
	}
}

func templateDeletedOnce(t *testing.T, s cube.TemplateStore) {
	b := finishBuild(t, s, addBuild(t, s, templateNo(1), buildNo(1, "t1")))
	if named, err := s.TemplateSnapshots(t.Context()); err != nil || len(named) != 2 || !named[b.Snapshot] || !named[b.BaseSnapshot] {
		t.Errorf("named: %v, %v", named, err)
	}
	freed, err := s.DeleteTemplate(t.Context(), "t1")
	if err != nil || len(freed) != 2 {
		t.Errorf("freed %v, %v; want two", freed, err)
	}
	wantKind(t, second(s.DeleteTemplate(t.Context(), "t1")), cube.NotFound)
	wantKind(t, second(s.Build(t.Context(), b.ID)), cube.NotFound)
	wantTagged(t, s, "t1", "default", "")
	addBuild(t, s, templateNo(1), buildNo(1, "t1")) // its names are free
}

func oldBuildsDropped(t *testing.T, s cube.TemplateStore) {
	for n := 1; n <= 4; n++ {
		finishBuild(t, s, addBuild(t, s, templateNo(1), buildNo(n, "t1")))
	}
	freed, err := s.DropBuilds(t.Context(), "t1", 1)
	if err != nil || fmt.Sprint(freed) != "[sb2 base-b2 sb1 base-b1]" {
		t.Errorf("dropped %v, %v", freed, err)
	}
	if b, _ := s.Build(t.Context(), "b1"); b.Snapshot != "" || b.HostKey != "" || b.Status != cube.BuildReady {
		t.Errorf("a dropped build: %+v", b)
	}
}

func buildLogRead(t *testing.T, s cube.TemplateStore) {
	addBuild(t, s, templateNo(1), buildNo(1, "t1"))
	var lines []cube.LogEntry
	for n, level := range []string{"info", "debug", "warn", "error"} {
		lines = append(lines, cube.LogEntry{Time: morning.Add(time.Duration(n) * time.Second), Level: level, Message: level, Step: "1"})
	}
	for _, id := range []cube.BuildID{"b1", "none"} {
		if err := s.AddBuildLog(t.Context(), id, lines); err != nil {
			t.Fatal(err)
		}
	}
	for want, q := range map[string]cube.BuildLogQuery{
		"info debug warn error": {Limit: 9}, "debug warn": {Limit: 2, Offset: 1}, "error warn": {Limit: 2, Backward: true},
		"warn error": {Limit: 9, Level: "warn"}, "error": {Limit: 9, Offset: 1, Level: "warn"},
		"debug info": {Limit: 9, Backward: true, From: lines[1].Time}, "": {Limit: 9, Offset: 4},
	} {
		got, err := s.BuildLog(t.Context(), "b1", q)
		var words []string
		for _, line := range got {
			words = append(words, line.Message)
		}
		if strings.Join(words, " ") != want || err != nil {
			t.Errorf("%+v reads %v, %v; want %s", q, words, err, want)
		}
	}
	if got, err := s.BuildLog(t.Context(), "b1", cube.BuildLogQuery{Limit: 1}); err != nil || !cmp.Equal(got, lines[:1]) {
		t.Errorf("the first line is %v, %v", got, err)
	}
}

func layersKept(t *testing.T, s cube.TemplateStore) {
	put := func(key string, id, replaced cube.SnapshotID, minute int) {
		t.Helper()
		if got, err := s.PutLayer(t.Context(), key, id, morning.Add(time.Duration(minute)*time.Minute)); got != replaced || err != nil {
			t.Errorf("putting %s replaced %q, %v; want %q", key, got, err, replaced)
		}
	}
	put("a", "s1", "", 1)
	put("b", "s2", "", 2)
	put("b", "s3", "s2", 3)
	put("c", "s4", "", 4)
	if got, err := s.Layer(t.Context(), "a", morning.Add(5*time.Minute)); got != "s1" || err != nil {
		t.Errorf("found %q, %v", got, err)
	}
	if dropped, err := s.DropLayers(t.Context(), morning.Add(4*time.Minute), 9); err != nil || fmt.Sprint(dropped) != "[s3]" {
		t.Errorf("dropped %v, %v; want s3", dropped, err)
	}
	if dropped, err := s.DropLayers(t.Context(), morning, 1); err != nil || fmt.Sprint(dropped) != "[s4]" {
		t.Errorf("dropped %v, %v; want s4", dropped, err)
	}
	wantKind(t, second(s.Layer(t.Context(), "b", morning)), cube.NotFound)
}

func spawnsCounted(t *testing.T, s cube.TemplateStore) {
	addBuild(t, s, templateNo(1), buildNo(1, "t1"))
	for range 2 {
		if err := s.AddSpawns(t.Context(), map[cube.TemplateID]cube.Spawn{"t1": {Count: 3, Last: morning}, "none": {Count: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := s.UserTemplate(t.Context(), "t1"); got.SpawnCount != 6 || !got.LastSpawnedAt.Equal(morning) {
		t.Errorf("counted %d, last %v", got.SpawnCount, got.LastSpawnedAt)
	}
}

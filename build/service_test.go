package build

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cube"
	"cube/store/sqlite"
)

// house is a Service with stand-ins for what it stands on.
type house struct {
	*Service
	t     *testing.T
	store *sqlite.Store

	mu        sync.Mutex // guards what follows
	discarded map[cube.SnapshotID]bool
	sandboxes map[cube.TemplateID]bool
	hold      chan struct{} // builds wait until it is closed; nil for none
}

// openHouse opens a service on a directory, which another may have left.
func openHouse(t *testing.T, dir string, change func(*ServiceConfig)) *house {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "cube.db"))
	if err != nil {
		t.Fatal(err)
	}
	config := ServiceConfig{
		Store: store, Dir: dir, Grace: time.Nanosecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Resources: cube.Resources{CPUs: 1, MemoryMB: 512, DiskMB: 1024, Pids: 64},
		Own:       []cube.Template{{ID: "base", Snapshot: cube.BaseSnapshot}},
	}
	if change != nil {
		change(&config)
	}
	service, err := NewService(config)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{Service: service, t: t, store: store, discarded: map[cube.SnapshotID]bool{}, sandboxes: map[cube.TemplateID]bool{}}
	if err := h.Begin(t.Context(), h, h, h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.shut)
	return h
}

// shut ends it as a stop of the server does.
func (h *house) shut() {
	h.Close()
	_ = h.store.Close()
}

// Run implements Builder: a build is ready at once, or when it is let.
func (h *house) Run(ctx context.Context, id string, spec Spec, log func(cube.LogEntry)) (Result, error) {
	log(cube.LogEntry{Time: time.Now(), Level: "info", Message: "it begins", Step: "base"})
	h.mu.Lock()
	hold := h.hold
	h.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
	snapshot := cube.SnapshotID("s" + id)
	return Result{Snapshot: snapshot, Memory: true, HostKey: "secret", Base: Base{Snapshot: "base-" + snapshot}}, h.PutLayer(ctx, spec.From, "layer-"+snapshot)
}

func (h *house) Uses(id cube.TemplateID) (running, paused bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sandboxes[id], false
}

func (h *house) Forget(cube.TemplateID) {}

func (h *house) Discard(_ context.Context, id cube.SnapshotID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.discarded[id] = true
	return nil
}

func (h *house) gone(id cube.SnapshotID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.discarded[id]
}

// as is the context of a team's request.
func as(t *testing.T, team string) context.Context {
	return cube.WithIdentity(t.Context(), cube.Identity{Subject: "ada", Team: team})
}

// begin asks for a build and starts it.
func (h *house) begin(ctx context.Context, name string) cube.Build {
	h.t.Helper()
	template, b, err := h.Request(ctx, Request{Name: name})
	if err == nil {
		err = h.Start(ctx, StartRequest{Template: string(template.ID), Build: b.ID, Spec: Spec{From: "image"}})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come to be", what)
		}
	}
}

func (h *house) awaitStatus(id cube.BuildID, want cube.BuildStatus) cube.Build {
	h.t.Helper()
	var b cube.Build
	await(h.t, string(want), func() bool {
		var err error
		if b, err = h.store.Build(context.Background(), id); err != nil {
			h.t.Fatal(err)
		}
		return b.Status == want
	})
	return b
}

func TestABuildOfADeadServerIsNotBuildingForEver(t *testing.T) {
	dir := t.TempDir()
	first := openHouse(t, dir, nil)
	first.hold = make(chan struct{})
	running, waiting := first.begin(t.Context(), "one"), first.begin(t.Context(), "two")
	_, unstarted, err := first.Request(t.Context(), Request{Name: "three"})
	if err != nil {
		t.Fatal(err)
	}
	// The first lives on and nobody has told it: a server that was killed tells
	// nobody either.
	second := openHouse(t, dir, nil)
	for _, b := range []cube.Build{running, waiting} {
		if got := second.awaitStatus(b.ID, cube.BuildError); got.Failure.Message != errStopping.Error() || got.FinishedAt.IsZero() {
			t.Errorf("it is %+v", got)
		}
	}
	second.awaitStatus(unstarted.ID, cube.BuildWaiting)
}

func TestAStopEndsBuildsAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	first := openHouse(t, dir, nil)
	first.hold = make(chan struct{})
	running, waiting := first.begin(t.Context(), "one"), first.begin(t.Context(), "two")
	first.shut()
	second := openHouse(t, dir, nil)
	for _, b := range []cube.Build{running, waiting} {
		if got := second.awaitStatus(b.ID, cube.BuildError); got.Failure.Message != errStopping.Error() {
			t.Errorf("it is %+v", got)
		}
	}
	if _, _, err := first.Request(t.Context(), Request{Name: "x"}); err == nil {
		t.Error("a service that was closed takes requests")
	}
}

func TestSnapshotsOfADeletedTemplateGo(t *testing.T) {
	h := openHouse(t, t.TempDir(), nil)
	b := h.begin(t.Context(), "mine")
	b = h.awaitStatus(b.ID, cube.BuildReady)
	h.mu.Lock()
	h.sandboxes[b.Template] = true
	h.mu.Unlock()
	if err := h.Delete(t.Context(), "mine"); cube.KindOf(err) != cube.Invalid {
		t.Errorf("deleting one in use: %v", err)
	}
	h.mu.Lock()
	h.sandboxes[b.Template] = false
	h.mu.Unlock()
	if err := h.Delete(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of its snapshots", func() bool { return h.gone(b.Snapshot) && h.gone(b.BaseSnapshot) })
	if h.gone("layer-" + b.Snapshot) {
		t.Error("a layer that others can use is gone")
	}
}

func TestADeletedTemplatesBuildEnds(t *testing.T) {
	h := openHouse(t, t.TempDir(), nil)
	h.hold = make(chan struct{})
	b := h.begin(t.Context(), "mine")
	if err := h.Delete(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the build", func() bool { return h.job(b.ID) == nil })
	if _, err := h.store.Build(t.Context(), b.ID); cube.KindOf(err) != cube.NotFound {
		t.Errorf("its row: %v", err)
	}
}

func TestALayerInUseByABuildStays(t *testing.T) {
	h := openHouse(t, t.TempDir(), nil)
	if err := h.PutLayer(t.Context(), "key", "old"); err != nil {
		t.Fatal(err)
	}
	hold := make(chan struct{})
	h.hold = hold
	b := h.begin(t.Context(), "mine")
	if err := h.PutLayer(t.Context(), "key", "new"); err != nil {
		t.Fatal(err)
	}
	h.discardUnnamed()
	if h.gone("old") {
		t.Error("a layer went while a build ran that may know it")
	}
	close(hold)
	h.awaitStatus(b.ID, cube.BuildReady)
	await(t, "the end of the old layer", func() bool { return h.gone("old") })
	if h.gone("new") {
		t.Error("the new layer is gone")
	}
}

func TestTeamsHaveTemplatesOfTheirOwn(t *testing.T) {
	h := openHouse(t, t.TempDir(), func(c *ServiceConfig) { c.Tenancy = cube.TenancyTeam })
	red, blue := as(t, "red"), as(t, "blue")
	reds := h.begin(red, "mine")
	h.awaitStatus(reds.ID, cube.BuildReady)
	blues := h.begin(blue, "mine")
	h.awaitStatus(blues.ID, cube.BuildReady)
	if reds.Template == blues.Template {
		t.Fatal("two teams share a template by its name")
	}
	id := string(reds.Template)
	for name, call := range map[string]func(name string) error{
		"find":    func(n string) error { _, err := h.Find(blue, n); return err },
		"read":    func(n string) error { _, err := h.Template(blue, n); return err },
		"delete":  func(n string) error { return h.Delete(blue, n) },
		"publish": func(n string) error { yes := true; _, err := h.SetPublic(blue, n, &yes); return err },
		"tag":     func(n string) error { _, _, err := h.Tag(blue, n, []string{"x"}); return err },
		"untag":   func(n string) error { return h.Untag(blue, n, []string{"x"}) },
		"tags":    func(n string) error { _, err := h.Tags(blue, n); return err },
		"alias":   func(n string) error { _, err := h.Alias(blue, n); return err },
		"build":   func(n string) error { _, err := h.Build(blue, n, reds.ID); return err },
		"start":   func(n string) error { return h.Start(blue, StartRequest{Template: n, Build: reds.ID}) },
		"upload":  func(n string) error { _, _, err := h.Upload(blue, n, strings.Repeat("a", 64)); return err },
		"again":   func(n string) error { _, _, _, err := h.Last(blue, n); return err },
	} {
		for _, foreign := range []string{id, "red/mine"} {
			if err := call(foreign); cube.KindOf(err) != cube.NotFound || err == nil {
				t.Errorf("%s of %s by another team: %v", name, foreign, err)
			}
		}
		if _, _, err := h.Request(t.Context(), Request{Name: "x"}); cube.KindOf(err) != cube.Forbidden {
			t.Errorf("a request without a team: %v", err)
		}
	}
	if list, err := h.List(blue, nil, 10); err != nil || len(list) != 1 || list[0].ID != blues.Template {
		t.Errorf("blue sees %v, %v", list, err)
	}
	yes := true
	if _, err := h.SetPublic(red, "mine", &yes); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{id, "red/mine", "red/mine:default"} {
		if found, err := h.Find(blue, name); err != nil || found.ID != reds.Template || found.HostKey != "secret" {
			t.Errorf("a public one by %s: %v, %v", name, found.ID, err)
		}
	}
	if found, err := h.Find(blue, "mine"); err != nil || found.ID != blues.Template {
		t.Errorf("blue's own: %v, %v", found.ID, err)
	}
	if err := h.Delete(blue, id); cube.KindOf(err) != cube.Forbidden {
		t.Errorf("deleting another team's public one: %v", err)
	}
}

func TestACredentialForCertainTemplatesReachesNoOthers(t *testing.T) {
	h := openHouse(t, t.TempDir(), nil)
	for _, name := range []string{"one", "two"} {
		h.awaitStatus(h.begin(t.Context(), name).ID, cube.BuildReady)
	}
	bound := cube.WithIdentity(t.Context(), cube.Identity{Templates: []string{"one", "three"}})
	if _, err := h.Find(bound, "one"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"two", "four"} {
		if _, _, err := h.Request(bound, Request{Name: name}); cube.KindOf(err) != cube.Forbidden {
			t.Errorf("a build of %s: %v", name, err)
		}
	}
	if _, _, err := h.Request(bound, Request{Name: "three"}); err != nil {
		t.Error(err)
	}
	if _, err := h.Find(bound, "two"); cube.KindOf(err) != cube.Forbidden {
		t.Errorf("using another: %v", err)
	}
	_, b, err := h.Request(bound, Request{Name: "three"})
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{"two", "base"} {
		err := h.Start(bound, StartRequest{Template: "three", Build: b.ID, FromTemplate: base})
		if cube.KindOf(err) != cube.Forbidden {
			t.Errorf("building from %s: %v", base, err)
		}
	}
}

func TestUploads(t *testing.T) {
	h := openHouse(t, t.TempDir(), nil)
	if _, _, err := h.Request(t.Context(), Request{Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	hash := strings.Repeat("0a", 32)
	present, link, err := h.Upload(t.Context(), "mine", hash)
	if err != nil || present {
		t.Fatalf("%v, %v", present, err)
	}
	target, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*url.URL){
		"another hash":      func(u *url.URL) { u.Path = strings.Replace(u.Path, hash, strings.Repeat("0b", 32), 1) },
		"another room":      func(u *url.URL) { u.Path = UploadPrefix + strings.Repeat("0", 32) + "/" + hash },
		"a way out":         func(u *url.URL) { u.Path = UploadPrefix + "../../" + hash },
		"another time":      func(u *url.URL) { u.RawQuery = strings.Replace(u.RawQuery, "expires=", "expires=1", 1) },
		"another signature": func(u *url.URL) { u.RawQuery = strings.TrimRight(u.RawQuery, "0123456789abcdef") },
	} {
		changed := *target
		change(&changed)
		if err := h.Receive(&changed, strings.NewReader("x"), 1); cube.KindOf(err) != cube.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := h.Receive(target, strings.NewReader("x"), 2); cube.KindOf(err) != cube.Invalid {
		t.Errorf("one that breaks off: %v", err)
	}
	if err := h.Receive(target, io.MultiReader(strings.NewReader("x"), brokenReader{}), -1); cube.KindOf(err) != cube.Invalid {
		t.Errorf("one whose connection breaks: %v", err)
	}
	if err := h.Receive(target, strings.NewReader("x"), maxUpload+1); cube.KindOf(err) != cube.TooLarge {
		t.Errorf("one that is too large: %v", err)
	}
	if _, _, err := h.Open(t.Context(), "", hash); cube.KindOf(err) != cube.NotFound {
		t.Errorf("what broke off is there: %v", err)
	}
	content := bytes.Repeat([]byte("archive"), 1000)
	for range 2 {
		if err := h.Receive(target, bytes.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
	}
	if present, _, err := h.Upload(t.Context(), "mine", hash); !present || err != nil {
		t.Errorf("after the upload: %v, %v", present, err)
	}
	file, size, err := h.Open(t.Context(), "", hash)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got, err := io.ReadAll(file); err != nil || size != int64(len(content)) || !bytes.Equal(got, content) {
		t.Errorf("it has %d bytes of %d, %v", len(got), size, err)
	}
	for _, name := range []string{"../" + hash, "", "x"} {
		if _, _, err := h.Open(t.Context(), "", name); cube.KindOf(err) != cube.NotFound {
			t.Errorf("opening %q: %v", name, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(h.uploads.dir, "*", "*"+partial)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	old := time.Now().Add(-uploadAge - time.Hour)
	path := filepath.Join(h.uploads.dir, room(""), hash)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	h.uploads.removeOld()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an old upload stays: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestALogHasBounds(t *testing.T) {
	h := openHouse(t, t.TempDir(), nil)
	_, b, err := h.Request(t.Context(), Request{Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	l := newLogbook(h.Service, b.ID)
	for range 20 {
		l.add(cube.LogEntry{Time: time.Now(), Level: "info", Message: strings.Repeat("x", 1<<20)})
	}
	l.add(cube.LogEntry{Time: time.Now(), Level: "error", Message: "the end"})
	l.close()
	lines, err := h.Log(t.Context(), b.ID, cube.BuildLogQuery{Limit: 100})
	if err != nil || len(lines) != 18 || !strings.HasPrefix(lines[16].Message, "The log is full") || lines[17].Message != "the end" {
		t.Errorf("%d lines, %v", len(lines), err)
	}
}

func TestReferences(t *testing.T) {
	for text, want := range map[string]reference{
		"mine": {"", "mine", ""}, " Mine:V1 ": {"", "mine", "v1"}, "team/mine:v1.2": {"team", "mine", "v1.2"}, "a-b_c": {"", "a-b_c", ""},
	} {
		if got, err := parseReference(text); err != nil || got != want {
			t.Errorf("%q reads %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ":", "a:", "/a", "a/", "a/b/c", "a:b:c", "ä", "a b", "a.b", "../a", strings.Repeat("a", 129)} {
		if got, err := parseReference(text); err == nil {
			t.Errorf("%q reads %+v", text, got)
		}
	}
	for text, want := range map[string]int{"2G": 2048, "2GiB": 2048, "512M": 512, "512": 512, "1Gi": 1024} {
		if got, err := Quantity(text); err != nil || got != want {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "G", "-1G", "1.5G", "999999999G", "1T"} {
		if got, err := Quantity(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestUploadsOnTheirWayTakeRoomToo(t *testing.T) {
	u, err := openUploads(filepath.Join(t.TempDir(), "uploads"))
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := filepath.Join(u.dir, room("mine")), filepath.Join(u.dir, room("theirs"))
	for _, dir := range []string{mine, theirs} {
		if err := u.receive(dir, strings.Repeat("a", 64), strings.NewReader("kept"), -1); err != nil {
			t.Fatal(err)
		}
	}
	release, err := u.reserve(mine, maxUploads-4)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.receive(mine, strings.Repeat("b", 64), strings.NewReader("x"), 1); cube.KindOf(err) != cube.Exhausted {
		t.Errorf("beside one that takes all: %v", err)
	}
	if err := u.receive(theirs, strings.Repeat("b", 64), strings.NewReader("x"), 1); err != nil {
		t.Errorf("of another tenant: %v", err)
	}
	release()
	if err := u.receive(mine, strings.Repeat("b", 64), strings.NewReader("x"), 1); err != nil || len(u.coming) > 0 {
		t.Errorf("once it is gone: %v, on their way %v", err, u.coming)
	}
}

func TestTheTemplatesThatWereAskedForLast(t *testing.T) {
	h := openHouse(t, t.TempDir(), nil)
	now := rowTime()
	spawns := map[cube.TemplateID]cube.Spawn{}
	var ids []cube.TemplateID
	for i, ago := range []time.Duration{3 * time.Hour, time.Minute, 48 * time.Hour, 2 * time.Hour} {
		id := h.begin(t.Context(), "t"+string(rune('a'+i))).Template
		ids = append(ids, id)
		spawns[id] = cube.Spawn{Count: 1, Last: now.Add(-ago)}
	}
	h.begin(t.Context(), "never")
	if err := h.store.AddSpawns(t.Context(), spawns); err != nil {
		t.Fatal(err)
	}
	for most, want := range map[int][]cube.TemplateID{2: {ids[1], ids[3]}, 9: {ids[1], ids[3], ids[0]}} {
		got, err := h.Recent(t.Context(), now.Add(-24*time.Hour), most)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("the last %d are %v, %v; want %v", most, got, err, want)
		}
	}
}

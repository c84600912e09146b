package enginetest

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cube"
)

// runImages checks what an engine promises of images and layers, in sandboxes that
// have no program but the agent, and in those of the base.
func runImages(t *testing.T, suite Suite) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *machine)
	}{
		{"a sandbox starts from an image, pauses, and goes on", imageLife},
		{"an image that is broken leaves nothing", brokenImages},
		{"images that share a layer open it once", sharedLayers},
		{"what an image deletes, replaces and owns is seen inside", imageInside},
		{"an image cannot replace what is the engine's", imageInTheWay},
		{"what is written becomes a layer", writtenLayer},
		{"a layer over the base has what was written and deleted", layerOverBase},
		{"a checkpoint as a layer that is given up leaves the sandbox running", layerGivenUp},
		{"layers that are needed outlive the snapshots that brought them", layersOutlive},
		{"a layer holds files larger than the memory, and holes", largeLayer},
		{"an image with as many layers as there can be, and a layer over it", manyLayers},
		{"life over layers is as over the base", lifeOverLayers},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t, suite)) })
	}
}

// addImage adds an image that ends with the test.
func (m *machine) addImage(t *testing.T, layers ...cube.ImageLayer) cube.SnapshotID {
	t.Helper()
	id := cube.NewSnapshotID()
	info, err := m.AddImage(m.ctx, cube.ImageRequest{Snapshot: id, Layers: layers})
	if err != nil {
		t.Fatalf("adding an image: %v", err)
	}
	t.Cleanup(func() { m.discard(t, id) })
	if info.ID != id || info.Memory {
		t.Errorf("the image is %+v", info)
	}
	return id
}

// keepLayer keeps a sandbox's files as a layer, until the end of the test.
func (m *machine) keepLayer(t *testing.T, id cube.SandboxID) cube.SnapshotID {
	t.Helper()
	snapshot := cube.NewSnapshotID()
	info, err := m.Checkpoint(m.ctx, cube.CheckpointRequest{Sandbox: id, Snapshot: snapshot, Layer: true})
	if err != nil {
		t.Fatalf("keeping a layer: %v", err)
	}
	t.Cleanup(func() { m.discard(t, snapshot) })
	if info.ID != snapshot || info.Memory {
		t.Errorf("the layer is %+v", info)
	}
	return snapshot
}

func imageLife(t *testing.T, m *machine) {
	image := m.addImage(t, imageOf(t, [2]string{"etc/", ""}, [2]string{"etc/os-release", "ID=test\n"}), imageOf(t, [2]string{"srv/data", "1"}))
	id := m.start(t, from(image))
	m.health(t, id)
	for _, memory := range []bool{true, false} {
		kept := m.checkpoint(t, id, memory)
		m.thaw(t, id)
		m.health(t, id)
		m.health(t, m.start(t, from(kept)))
	}
	layer := m.keepLayer(t, id)
	m.frozen(t, id)
	m.thaw(t, id)
	m.health(t, id)
	m.health(t, m.start(t, from(layer)))
}

func brokenImages(t *testing.T, m *machine) {
	good := imageOf(t, [2]string{"a", "1"})
	errBroken := errors.New("the connection broke")
	broken := cube.ImageLayer{
		DiffID: "sha256:" + strings.Repeat("0", 64),
		Open:   func(context.Context) (io.ReadCloser, error) { return nil, errBroken },
	}
	_, err := m.AddImage(m.ctx, cube.ImageRequest{Snapshot: cube.NewSnapshotID(), Layers: []cube.ImageLayer{good, broken}})
	if !errors.Is(err, errBroken) {
		t.Errorf("a layer that cannot be opened: %v", err)
	}
	broken.Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(strings.Repeat("no tar file", 1000))), nil
	}
	_, err = m.AddImage(m.ctx, cube.ImageRequest{Snapshot: cube.NewSnapshotID(), Layers: []cube.ImageLayer{broken}})
	wantKind(t, err, cube.Invalid)
	ctx, cancel := context.WithCancel(m.ctx)
	broken.Open = func(context.Context) (io.ReadCloser, error) {
		cancel()
		return good.Open(ctx)
	}
	_, err = m.AddImage(ctx, cube.ImageRequest{Snapshot: cube.NewSnapshotID(), Layers: []cube.ImageLayer{broken}})
	if err == nil {
		t.Error("an image was added though its context had ended")
	}
	_, err = m.AddImage(m.ctx, cube.ImageRequest{Snapshot: cube.BaseSnapshot, Layers: []cube.ImageLayer{good}})
	wantKind(t, err, cube.Conflict)
	if list, err := m.Snapshots(m.ctx); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v %v", list, err)
	}
}

func sharedLayers(t *testing.T, m *machine) {
	if m.suite.Shell == nil {
		t.Skip("this engine keeps no layers")
	}
	shared := imageOf(t, [2]string{"shared", "1"})
	var mu sync.Mutex
	opened := 0
	counted := shared
	counted.Open = func(ctx context.Context) (io.ReadCloser, error) {
		mu.Lock()
		opened++
		mu.Unlock()
		return shared.Open(ctx)
	}
	var group sync.WaitGroup
	for _, own := range []string{"a", "b", "c", "d"} {
		other := imageOf(t, [2]string{own, own})
		group.Go(func() {
			id := cube.NewSnapshotID()
			if _, err := m.AddImage(m.ctx, cube.ImageRequest{Snapshot: id, Layers: []cube.ImageLayer{counted, other}}); err != nil {
				t.Error(err)
			}
			t.Cleanup(func() { m.discard(t, id) })
		})
	}
	group.Wait()
	if opened != 1 {
		t.Errorf("a layer of four images was opened %d times", opened)
	}
}

// writtenLayer uses the base, whose sandboxes have programs.
func writtenLayer(t *testing.T, m *machine) {
	if m.suite.Shell == nil {
		t.Skip("this engine's sandboxes run no code")
	}
	first := m.start(t)
	m.shell(t, first, "mkdir -p /srv/d/e && echo 1 > /srv/d/e/f && echo 2 > /srv/g && chown 7:8 /srv/g && chmod 4750 /srv/g && ln -s g /srv/l && ln /srv/g /srv/h && echo user > /home/user/x")
	one := m.keepLayer(t, first)
	m.thaw(t, first)
	m.shell(t, first, "echo later > /srv/later") // is not in the layer
	second := m.start(t, from(one))
	const look = "cd /srv && find . | sort | tr '\\n' ' ' && stat -c '%u:%g %a %h' g && cat d/e/f l && cat /home/user/x"
	want := ". ./d ./d/e ./d/e/f ./g ./h ./l 7:8 4750 2\n1\n2\nuser"
	if got := m.shell(t, second, look); got != want {
		t.Errorf("a sandbox of the layer has %q, not %q", got, want)
	}
	m.shell(t, second, "rm -r /srv/d && mkdir /srv/d && echo new > /srv/d/n && rm /srv/l && echo 3 > /srv/g")
	third := m.start(t, from(m.keepLayer(t, second)))
	if got := m.shell(t, third, "cd /srv && find . | sort | tr '\\n' ' ' && cat g d/n"); got != ". ./d ./d/n ./g ./h 3\nnew" {
		t.Errorf("a sandbox of a layer over the layer has %q", got)
	}
	// The disk above it is empty: what is kept of it in memory or files goes on.
	for _, memory := range []bool{true, false} {
		m.shell(t, third, "echo kept > /srv/kept")
		kept := m.checkpoint(t, third, memory)
		m.thaw(t, third)
		if got := m.shell(t, m.start(t, from(kept)), "cd /srv && cat g d/n kept"); got != "3\nnew\nkept" {
			t.Errorf("kept with memory %t, a sandbox over layers has %q", memory, got)
		}
	}
}

func layerOverBase(t *testing.T, m *machine) {
	if m.suite.Shell == nil {
		t.Skip("this engine's sandboxes run no code")
	}
	id := m.start(t)
	m.shell(t, id, "echo '#!/bin/sh\necho mine' > /usr/local/bin/mine && chmod 755 /usr/local/bin/mine && rm /usr/bin/env && mkdir -p /usr/share/new && echo 1 > /usr/share/new/x && rm /etc/hostname")
	layer := m.keepLayer(t, id)
	child := m.start(t, from(layer))
	if got := m.shell(t, child, "mine; ls /usr/bin/env >/dev/null 2>&1 || echo gone; cat /usr/share/new/x; ls /usr/bin/sh >/dev/null && echo there"); got != "mine\ngone\n1\nthere" {
		t.Errorf("over the base: %q", got)
	}
	// Started and kept again, with memory.
	kept := m.checkpoint(t, child, true)
	m.thaw(t, child)
	if got := m.shell(t, m.start(t, from(kept)), "mine"); got != "mine" {
		t.Errorf("kept with memory: %q", got)
	}
	other := m.start(t)
	m.shell(t, other, "ls /usr/bin/env && ! ls /usr/local/bin/mine 2>/dev/null")
}

// layerGivenUp gives up after several times, so that it strikes in several stages.
func layerGivenUp(t *testing.T, m *machine) {
	id := m.start(t)
	for _, after := range []time.Duration{0, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(m.ctx, after)
		snapshot := cube.NewSnapshotID()
		_, err := m.Checkpoint(ctx, cube.CheckpointRequest{Sandbox: id, Snapshot: snapshot, Layer: true})
		cancel()
		if err == nil {
			m.discard(t, snapshot) // it was faster
			m.thaw(t, id)
		}
		m.health(t, id)
	}
	_, err := m.Checkpoint(m.ctx, cube.CheckpointRequest{Sandbox: id, Snapshot: cube.NewSnapshotID(), Layer: true, Memory: true})
	wantKind(t, err, cube.Invalid)
	m.health(t, id)
	_, err = m.Checkpoint(m.ctx, cube.CheckpointRequest{Sandbox: cube.NewSandboxID(), Snapshot: cube.NewSnapshotID(), Layer: true})
	wantKind(t, err, cube.NotFound)
	if list, err := m.Snapshots(m.ctx); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v %v", list, err)
	}
}

func layersOutlive(t *testing.T, m *machine) {
	image := m.addImage(t, imageOf(t, [2]string{"a", "1"}))
	id := m.start(t, from(image))
	layer := m.keepLayer(t, id)
	m.thaw(t, id)
	m.discard(t, image)
	m.health(t, id)
	child := m.start(t, from(layer))
	m.discard(t, layer)
	successor := &machine{Engine: m.suite.Open(t), suite: m.suite, ctx: m.ctx}
	successor.health(t, child)
	kept := successor.checkpoint(t, child, false)
	successor.stop(t, child)
	again := successor.request()
	again.Snapshot = kept
	if _, err := successor.Start(m.ctx, again); err != nil {
		t.Fatalf("starting from what was kept over layers: %v", err)
	}
	successor.health(t, again.ID)
	successor.stop(t, again.ID)
	if list, err := m.Snapshots(m.ctx); err != nil || slices.ContainsFunc(list, func(i cube.SnapshotInfo) bool { return i.ID == image || i.ID == layer }) {
		t.Errorf("discarded snapshots are listed: %v %v", list, err)
	}
}

// largeLayer writes more than fits into the memory, and a file of almost nothing
// that is larger than the disk.
func largeLayer(t *testing.T, m *machine) {
	if m.suite.Shell == nil {
		t.Skip("this engine's sandboxes run no code")
	}
	m.patient(t)
	id := m.start(t, func(r *cube.StartRequest) { r.Resources.MemoryMB, r.Resources.DiskMB = 128, 512 })
	const files = "/srv/large /srv/holes"
	const look = "stat -c '%n %s' " + files + "; sha256sum < /srv/large; tail -c 20 /srv/holes | od -c; mknod /srv/null c 1 3 2>&1"
	m.shell(t, id, "yes 0123456789abcdef | head -c 160000000 > /srv/large; truncate -s 100G /srv/holes; echo end >> /srv/holes; mknod /srv/null c 1 3")
	want := m.shell(t, id, "rm /srv/null; "+look)
	child := m.start(t, from(m.keepLayer(t, id)))
	if got := m.shell(t, child, look); got != want {
		t.Errorf("the layer has %q, not %q", got, want)
	}
}

func manyLayers(t *testing.T, m *machine) {
	var layers []cube.ImageLayer
	for i := range 127 {
		name := strconv.Itoa(i)
		layers = append(layers, imageOf(t, [2]string{"srv/" + name, name}, [2]string{"srv/last", name}))
	}
	layers = append(layers, layers[3], layers[3]) // the same twice is no other
	id := m.start(t, from(m.addImage(t, layers...)))
	m.health(t, id)
	m.health(t, m.start(t, from(m.keepLayer(t, id))))
}

// lifeOverLayers does over layers what runMemory does over the base.
func lifeOverLayers(t *testing.T, m *machine) {
	if m.suite.Shell == nil {
		t.Skip("this engine's sandboxes run no code")
	}
	m.patient(t)
	id := m.start(t)
	m.shell(t, id, "echo layer > /srv/layer && rm /etc/debian_version && mkdir /usr/local/layer && touch /usr/local/layer/x")
	layer := m.keepLayer(t, id)
	m.stop(t, id)
	m.suite.origin = layer
	for _, run := range []func(*testing.T, *machine){memoryIsKept, filesAreKept, children, diskLimit, separateFiles} {
		run(t, m)
	}
	last := m.start(t)
	if got := m.shell(t, last, "cat /srv/layer; ls /etc/debian_version 2>/dev/null; ls /usr/local/layer"); got != "layer\nx" {
		t.Errorf("the layer has become %q", got)
	}
}

func imageInside(t *testing.T, m *machine) {
	if m.suite.Shell == nil {
		t.Skip("this engine's sandboxes run no code")
	}
	regular := func(name string, mode int64, owner int) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Uid: owner, Gid: owner + 1}
	}
	lower := layerOf(t, []tar.Header{
		regular("srv/deleted", 0o644, 0), regular("srv/set", 0o4711, 7), regular("srv/replaced/old", 0o644, 0), regular("srv/merged/old", 0o644, 0),
		regular("srv/file", 0o644, 0), {Typeflag: tar.TypeDir, Name: "srv/mine", Mode: 0o2750, Uid: 1000, Gid: 1000},
		{Typeflag: tar.TypeSymlink, Name: "srv/link", Linkname: "/srv/set"}, {Typeflag: tar.TypeLink, Name: "srv/hard", Linkname: "srv/set"},
		{Typeflag: tar.TypeChar, Name: "dev/mem", Devmajor: 1, Devminor: 1},
	}, func(int) []byte { return nil })
	upper := layerOf(t, []tar.Header{
		regular("srv/.wh.deleted", 0, 0), regular("srv/replaced/.wh..wh..opq", 0, 0), regular("srv/replaced/new", 0o644, 0), regular("srv/merged/new", 0o644, 0),
		regular("srv/.wh.never", 0, 0), regular("other/.wh.never", 0, 0), regular("other/x", 0o644, 0), regular("srv/.wh.file", 0, 0), {Typeflag: tar.TypeDir, Name: "srv/file", Mode: 0o700},
	}, func(int) []byte { return nil })
	passwd := imageOf(t, [2]string{"etc/passwd", "root:x:0:0:root:/:/bin/bash\n"}, [2]string{"etc/group", "root:x:0:\n"})
	image := m.addImage(t, programs(t, "bash", "find", "sort", "stat", "cat"), passwd, lower, upper)
	const look = "cd /; find srv other | sort; stat -c '%a %u %g %h %n' srv/set; stat -c '%a %u %g %n' srv/mine; cat srv/link; find /dev/mem 2>/dev/null; stat -c %a /opt/cube/envd"
	want := strings.Join([]string{"other", "other/x", "srv", "srv/file", "srv/hard", "srv/link", "srv/merged", "srv/merged/new", "srv/merged/old", "srv/mine",
		"srv/replaced", "srv/replaced/new", "srv/set", "4711 7 8 2 srv/set", "2750 1000 1000 srv/mine", "755"}, "\n")
	id := m.start(t, from(image))
	if got := m.shell(t, id, look); got != want {
		t.Errorf("the image has\n%s\nnot\n%s", got, want)
	}
	m.shell(t, id, "echo more > /srv/merged/more; echo > /bin/true")
	child := m.start(t, from(m.keepLayer(t, id)))
	if got := m.shell(t, child, "cat /srv/merged/more; cd /srv/merged; find . | sort"); got != "more\n.\n./more\n./new\n./old" {
		t.Errorf("a layer over the image has %q", got)
	}
}

// imageInTheWay has an image with something else wherever the engine puts
// something.
func imageInTheWay(t *testing.T, m *machine) {
	for name, headers := range map[string][]tar.Header{
		"links to elsewhere": {
			{Typeflag: tar.TypeSymlink, Name: "proc", Linkname: "/etc"}, {Typeflag: tar.TypeSymlink, Name: "dev", Linkname: "/nowhere"},
			{Typeflag: tar.TypeSymlink, Name: "sys", Linkname: "sys"}, {Typeflag: tar.TypeSymlink, Name: "run", Linkname: "../../../../run"},
			{Typeflag: tar.TypeSymlink, Name: "opt", Linkname: "/"}, {Typeflag: tar.TypeSymlink, Name: "tmp", Linkname: "/proc/self/fd"},
			{Typeflag: tar.TypeSymlink, Name: "etc", Linkname: "/proc/1/root/etc"},
		},
		"files": {
			{Typeflag: tar.TypeReg, Name: "proc"}, {Typeflag: tar.TypeReg, Name: "dev"}, {Typeflag: tar.TypeReg, Name: "sys"}, {Typeflag: tar.TypeReg, Name: "run"},
			{Typeflag: tar.TypeFifo, Name: "opt"}, {Typeflag: tar.TypeReg, Name: "tmp"}, {Typeflag: tar.TypeReg, Name: "etc"},
		},
		"nobody may look": {
			{Typeflag: tar.TypeDir, Name: "./", Mode: 0}, {Typeflag: tar.TypeDir, Name: "opt/cube", Mode: 0, Uid: 7}, {Typeflag: tar.TypeReg, Name: "opt/cube/envd", Mode: 0},
			{Typeflag: tar.TypeDir, Name: "proc", Mode: 0}, {Typeflag: tar.TypeDir, Name: "etc", Mode: 0, Uid: 7}, {Typeflag: tar.TypeSymlink, Name: "etc/hosts", Linkname: "/dev/null"},
		},
		"nothing at all": {},
	} {
		t.Run(name, func(t *testing.T) {
			id := m.start(t, from(m.addImage(t, layerOf(t, headers, func(int) []byte { return nil }))))
			m.health(t, id)
			m.stop(t, id)
		})
	}
}

package envd

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/filesystem"
)

func TestChangesInADirectoryAreStreamed(t *testing.T) {
	a := start(t)
	dir := tree(t, "sub/", "file")
	request := connect.NewRequest(&pb.WatchDirRequest{Path: dir, Recursive: true, IncludeEntry: true})
	request.Header().Set("Keepalive-Ping-Interval", "1")
	stream, err := a.files.WatchDir(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() || stream.Msg().GetStart() == nil {
		t.Fatalf("it begins with %v, %v", stream.Msg(), stream.Err())
	}
	if !stream.Receive() || stream.Msg().GetKeepalive() == nil {
		t.Fatalf("while nothing happens it says %v, %v", stream.Msg(), stream.Err())
	}
	if err := os.WriteFile(filepath.Join(dir, "sub", "new"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for stream.Receive() {
		e := stream.Msg().GetFilesystem()
		if e.GetType() != pb.EventType_EVENT_TYPE_WRITE {
			continue
		}
		if e.GetName() != "sub/new" || e.GetEntry().GetPath() != filepath.Join(dir, "sub", "new") || e.GetEntry().GetSize() != 7 {
			t.Errorf("it tells %v", e)
		}
		return
	}
	t.Errorf("it ends with %v", stream.Err())
}

func TestChangesInADirectoryAreToldToThoseWhoAsk(t *testing.T) {
	a := start(t)
	dir := tree(t, "file")
	made, err := a.files.CreateWatcher(t.Context(), connect.NewRequest(&pb.CreateWatcherRequest{Path: dir}))
	if err != nil {
		t.Fatal(err)
	}
	id := made.Msg.GetWatcherId()
	if err := os.Remove(filepath.Join(dir, "file")); err != nil {
		t.Fatal(err)
	}
	var events []*pb.FilesystemEvent
	for deadline := time.Now().Add(time.Minute); len(events) == 0 && time.Now().Before(deadline); {
		got, err := a.files.GetWatcherEvents(t.Context(), connect.NewRequest(&pb.GetWatcherEventsRequest{WatcherId: id}))
		if err != nil {
			t.Fatal(err)
		}
		events = got.Msg.GetEvents()
	}
	if len(events) != 1 || events[0].GetName() != "file" || events[0].GetType() != pb.EventType_EVENT_TYPE_REMOVE || events[0].GetEntry() != nil {
		t.Errorf("it tells %v", events)
	}
	if _, err := a.files.RemoveWatcher(t.Context(), connect.NewRequest(&pb.RemoveWatcherRequest{WatcherId: id})); err != nil {
		t.Error(err)
	}
	if _, err := a.files.GetWatcherEvents(t.Context(), connect.NewRequest(&pb.GetWatcherEventsRequest{WatcherId: id})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a watch that was removed says %v", err)
	}
}

func TestWhatCannotBeWatchedIsRefusedByItsKind(t *testing.T) {
	a := start(t)
	dir := tree(t, "file")
	for path, want := range map[string]connect.Code{
		filepath.Join(dir, "file"): connect.CodeInvalidArgument,
		filepath.Join(dir, "none"): connect.CodeNotFound,
	} {
		if _, err := a.files.CreateWatcher(t.Context(), connect.NewRequest(&pb.CreateWatcherRequest{Path: path})); connect.CodeOf(err) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	var last error
	for range 2000 { // never so many
		if _, last = a.files.CreateWatcher(t.Context(), connect.NewRequest(&pb.CreateWatcherRequest{Path: dir})); last != nil {
			break
		}
	}
	if connect.CodeOf(last) != connect.CodeResourceExhausted {
		t.Errorf("the last of too many: %v", last)
	}
}

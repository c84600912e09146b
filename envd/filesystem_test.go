package envd

import (
	"os"
	"os/user"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "cube/envd/gen/filesystem"
)

// tree makes files (and, with a slash at the end, directories) in a new
// directory.
func tree(t *testing.T, paths ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range paths {
		path := filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if p[len(p)-1] == '/' {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = os.WriteFile(path, []byte(p), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (a *agent) stat(path string) (*pb.EntryInfo, error) {
	r, err := a.files.Stat(a.t.Context(), connect.NewRequest(&pb.StatRequest{Path: path}))
	if err != nil {
		return nil, err
	}
	return r.Msg.GetEntry(), nil
}

func TestStatDescribesAnEntry(t *testing.T) {
	a := start(t)
	dir := tree(t, "file", "dir/")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Fatal(err)
	}
	file, link, loose := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "loose")
	modified := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	if err := os.Chtimes(file, modified, modified); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nothing", loose); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]*pb.EntryInfo{
		file:                      {Name: "file", Type: pb.FileType_FILE_TYPE_FILE, Size: 4, Mode: 0o644, Permissions: "-rw-r--r--", ModifiedTime: timestamppb.New(modified)},
		filepath.Join(dir, "dir"): {Name: "dir", Type: pb.FileType_FILE_TYPE_DIRECTORY, Mode: 0o755, Permissions: "drwxr-xr-x"},
		link:                      {Name: "link", Type: pb.FileType_FILE_TYPE_FILE, Mode: 0o644, Permissions: "Lrwxrwxrwx", SymlinkTarget: &file},
		loose:                     {Name: "loose", Permissions: "Lrwxrwxrwx", SymlinkTarget: &loose},
	} {
		want.Path, want.Owner, want.Group = path, me.Username, group.Name
		got, err := a.stat(path)
		if err != nil {
			t.Errorf("%s: %v", want.GetName(), err)
			continue
		}
		options := []cmp.Option{protocmp.Transform()}
		if path != file { // the file system's own business
			options = append(options, protocmp.IgnoreFields(&pb.EntryInfo{}, "size", "modified_time"))
		}
		if diff := cmp.Diff(want, got, options...); diff != "" {
			t.Errorf("%s: %s", want.GetName(), diff)
		}
	}
}

func TestListDirGoesAsDeepAsItIsAsked(t *testing.T) {
	a := start(t)
	dir := tree(t, "b", "a/c", "a/d/e", "z/")
	if err := os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		below string
		depth uint32
		want  []string
	}{
		{"", 0, []string{"a", "b", "link", "z"}},
		{"", 1, []string{"a", "b", "link", "z"}},
		{"", 2, []string{"a", "a/c", "a/d", "b", "link", "z"}},
		{"", 1 << 31, []string{"a", "a/c", "a/d", "a/d/e", "b", "link", "z"}},
		{"link", 1, []string{"link/c", "link/d"}},
		{"z", 1, nil},
	} {
		r, err := a.files.ListDir(t.Context(), connect.NewRequest(&pb.ListDirRequest{Path: filepath.Join(dir, c.below), Depth: c.depth}))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range r.Msg.GetEntries() {
			relative, err := filepath.Rel(dir, e.GetPath())
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, relative)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q to depth %d: %s", c.below, c.depth, diff)
		}
	}
}

func TestMakeDirMakesTheParentsToo(t *testing.T) {
	a := start(t)
	dir := tree(t, "file")
	made := filepath.Join(dir, "x", "y")
	if _, err := a.files.MakeDir(t.Context(), connect.NewRequest(&pb.MakeDirRequest{Path: made})); err != nil {
		t.Fatal(err)
	}
	if e, err := a.stat(made); err != nil || e.GetType() != pb.FileType_FILE_TYPE_DIRECTORY || e.GetMode() != 0o755 {
		t.Errorf("it made %v, %v", e, err)
	}
	for path, want := range map[string]connect.Code{
		made:                              connect.CodeAlreadyExists,
		filepath.Join(dir, "file"):        connect.CodeInvalidArgument,
		filepath.Join(dir, "file", "sub"): connect.CodeInvalidArgument,
	} {
		_, err := a.files.MakeDir(t.Context(), connect.NewRequest(&pb.MakeDirRequest{Path: path}))
		if connect.CodeOf(err) != want {
			t.Errorf("making %s ends with %v, want %v", path, err, want)
		}
	}
}

func TestMoveMakesRoomAndMoves(t *testing.T) {
	a := start(t)
	dir := tree(t, "old/file", "other/x")
	source, destination := filepath.Join(dir, "old"), filepath.Join(dir, "new", "place")
	move := func(from, to string) error {
		r, err := a.files.Move(t.Context(), connect.NewRequest(&pb.MoveRequest{Source: from, Destination: to}))
		if err == nil && r.Msg.GetEntry().GetPath() != to {
			t.Errorf("it says that it moved to %s", r.Msg.GetEntry().GetPath())
		}
		return err
	}
	if err := move(source, destination); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(destination, "file")) != "old/file" {
		t.Error("the file did not move along")
	}
	if err := move(source, destination); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("moving what is gone ends with %v", err)
	}
	if err := move(destination, filepath.Join(dir, "other")); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("moving onto a full directory ends with %v", err)
	}
	if err := move(destination, filepath.Join(destination, "inside")); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("moving a directory into itself ends with %v", err)
	}
}

func TestRemoveRemovesWithAllThatIsInIt(t *testing.T) {
	a := start(t)
	dir := tree(t, "kept", "gone/a/b")
	remove := func(path string) error {
		_, err := a.files.Remove(t.Context(), connect.NewRequest(&pb.RemoveRequest{Path: path}))
		return err
	}
	for range 2 { // what is gone already is no error
		if err := remove(filepath.Join(dir, "gone")); err != nil {
			t.Fatal(err)
		}
	}
	if err := remove(""); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("removing nothing in particular ends with %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestPathsThatLeadNowhereAreRefusedByTheirKind(t *testing.T) {
	a := start(t)
	dir := tree(t, "file")
	circle := filepath.Join(dir, "circle")
	if err := os.Symlink(circle, circle); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]connect.Code{
		filepath.Join(dir, "missing"):   connect.CodeNotFound,
		filepath.Join(dir, "file", "x"): connect.CodeInvalidArgument,
		filepath.Join(circle, "x"):      connect.CodeFailedPrecondition,
		"/a\x00b":                       connect.CodeInvalidArgument,
	} {
		if _, err := a.stat(path); connect.CodeOf(err) != want {
			t.Errorf("Stat of %q ends with %v, want %v", path, err, want)
		}
	}
	_, err := a.files.ListDir(t.Context(), connect.NewRequest(&pb.ListDirRequest{Path: filepath.Join(dir, "file")}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("listing a file ends with %v", err)
	}
	unknown := connect.NewRequest(&pb.StatRequest{Path: dir})
	unknown.Header().Set("Authorization", "Basic bm9zdWNodXNlcjo=")
	if _, err := a.files.Stat(t.Context(), unknown); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("an unknown user gets %v", err)
	}
}

package envd

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var octets = http.Header{"Content-Type": {"application/octet-stream"}}

// form is a body of parts: names of fields, paths, contents.
func form(t *testing.T, parts ...[3]string) (io.Reader, http.Header) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, p := range parts {
		part, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {
			mime.FormatMediaType("form-data", map[string]string{"name": p[0], "filename": p[1]}),
		}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(part, p[2])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &body, http.Header{"Content-Type": {w.FormDataContentType()}}
}

func zipped(t *testing.T, text string) io.Reader {
	t.Helper()
	var body bytes.Buffer
	w := gzip.NewWriter(&body)
	fmt.Fprint(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &body
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestWhatIsUploadedCanBeDownloaded(t *testing.T) {
	a := start(t)
	big := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	for name, content := range map[string]string{"text": "some text", "nothing": "", "4 MiB": big, "bytes": "\x00\xff\r\n\r\n--"} {
		dir := t.TempDir()
		for i, path := range []string{filepath.Join(dir, "raw"), filepath.Join(dir, "form"), filepath.Join(dir, "zip"), filepath.Join(dir, "named")} {
			target, header, body := fileURL(path), octets, io.Reader(strings.NewReader(content))
			switch filepath.Base(path) {
			case "form":
				body, header = form(t, [3]string{"file", "ignored", content})
			case "named":
				target = "/files"
				body, header = form(t, [3]string{"file", path, content})
			case "zip":
				header = octets.Clone()
				header.Set("Content-Encoding", "gzip")
				body = zipped(t, content)
			}
			got := a.do(http.MethodPost, target, body, header)
			want := fmt.Sprintf(`[{"path":%q,"name":%q,"type":"file"}]`, path, filepath.Base(path))
			if got.status != http.StatusOK || strings.TrimSpace(got.body) != want {
				t.Errorf("%s, way %d: the upload is answered with %d %s", name, i, got.status, got.body)
			}
			if got := a.get(fileURL(path)); got.status != http.StatusOK || got.body != content {
				t.Errorf("%s, way %d: the download is answered with %d and %d bytes", name, i, got.status, len(got.body))
			}
		}
	}
}

func TestSeveralFilesCanBeUploadedAtOnce(t *testing.T) {
	a := start(t)
	dir := t.TempDir()
	one, two := filepath.Join(dir, "new", "one"), filepath.Join(dir, "zwei – 二")
	body, header := form(t, [3]string{"file", one, "1"}, [3]string{"other", "/ignored", "x"}, [3]string{"file", two, "2"})
	got := a.do(http.MethodPost, "/files", body, header)
	want := fmt.Sprintf(`[{"path":%q,"name":"one","type":"file"},{"path":%q,"name":"zwei – 二","type":"file"}]`, one, two)
	if diff := cmp.Diff(want, strings.TrimSpace(got.body)); diff != "" {
		t.Errorf("answered with %d: %s", got.status, diff)
	}
	if read(t, one) != "1" || read(t, two) != "2" {
		t.Error("the contents were mixed up")
	}
}

func TestAnUploadKeepsTheFileThatWasThere(t *testing.T) {
	a := start(t)
	dir := t.TempDir()
	path, hard, soft := filepath.Join(dir, "script"), filepath.Join(dir, "hard"), filepath.Join(dir, "soft")
	if err := os.WriteFile(path, []byte("a longer text than the next"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, hard); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, soft); err != nil {
		t.Fatal(err)
	}
	if got := a.do(http.MethodPost, fileURL(soft), strings.NewReader("short"), octets); got.status != http.StatusOK {
		t.Fatalf("answered with %d %s", got.status, got.body)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if read(t, hard) != "short" || info.Mode() != 0o750 {
		t.Errorf("the file is another: %v, %q", info.Mode(), read(t, hard))
	}
}

func TestWhatIsMadeBelongsToTheUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	a := start(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "newer", "file")
	if got := a.do(http.MethodPost, fileURL(path, "username", "nobody"), strings.NewReader("x"), octets); got.status != http.StatusOK {
		t.Fatalf("answered with %d %s", got.status, got.body)
	}
	for made, mode := range map[string]os.FileMode{path: 0o644, filepath.Dir(path): os.ModeDir | 0o755, filepath.Join(dir, "new"): os.ModeDir | 0o755} {
		info, err := os.Lstat(made)
		if err != nil {
			t.Fatal(err)
		}
		stat := info.Sys().(*syscall.Stat_t)
		if info.Mode() != mode || fmt.Sprint(stat.Uid) != nobody.Uid || fmt.Sprint(stat.Gid) != nobody.Gid {
			t.Errorf("%s is %v of %d:%d", made, info.Mode(), stat.Uid, stat.Gid)
		}
	}
	if info, err := os.Lstat(dir); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("what was there before was given away: %v", err)
	}
}

func TestAPartOfAFileCanBeDownloaded(t *testing.T) {
	a := start(t)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		asked, want string
		status      int
	}{
		{"bytes=2-4", "234", http.StatusPartialContent},
		{"bytes=-2", "89", http.StatusPartialContent},
		{"bytes=20-30", "", http.StatusRequestedRangeNotSatisfiable},
	} {
		got := a.do(http.MethodGet, fileURL(path), nil, http.Header{"Range": {c.asked}})
		if got.status != c.status || (c.want != "" && got.body != c.want) {
			t.Errorf("%s is answered with %d %q", c.asked, got.status, got.body)
		}
	}
}

func TestTheKernelsFilesAreReadToTheirEnd(t *testing.T) {
	a := start(t)
	for _, path := range []string{"/proc/sys/kernel/random/boot_id", "/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		want, err := os.ReadFile(path)
		if err != nil {
			continue // not on every machine
		}
		if got := a.get(fileURL(path)); got.status != http.StatusOK || got.body != string(want) {
			t.Errorf("%s is answered with %d %q", path, got.status, got.body)
		}
	}
}

func TestRelativePathsBeginInTheHomeOrTheWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	a := start(t, func(r *initRequest) { r.DefaultWorkdir = dir })
	if got := a.do(http.MethodPost, fileURL("a/../b/file"), strings.NewReader("x"), octets); got.status != http.StatusOK {
		t.Fatalf("answered with %d %s", got.status, got.body)
	}
	if read(t, filepath.Join(dir, "b", "file")) != "x" {
		t.Error("the file is empty")
	}
	if got := a.run("pwd").printed.String(); got != dir+"\n" {
		t.Errorf("a command without a cwd runs in %q", got)
	}
}

func TestWhatCannotBeServedIsRefusedWithTheReason(t *testing.T) {
	a := start(t)
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	post := func(target, body string, more ...string) answer {
		header := octets.Clone()
		for i := 0; i < len(more); i += 2 {
			header.Set(more[i], more[i+1])
		}
		return a.do(http.MethodPost, target, strings.NewReader(body), header)
	}
	twice, twiceHeader := form(t, [3]string{"file", "a", "1"}, [3]string{"file", "b", "2"})
	none, noneHeader := form(t, [3]string{"data", "a", "1"})
	unnamed, unnamedHeader := form(t, [3]string{"file", "", "1"})
	for name, c := range map[string]struct {
		got    answer
		status int
		words  string
	}{
		"a missing file":              {a.get(fileURL("/no/such")), 404, "path '/no/such' does not exist"},
		"a directory":                 {a.get(fileURL(dir)), 400, "path '" + dir + "' is a directory"},
		"no path":                     {a.get("/files"), 400, "is a directory"},
		"a pipe":                      {a.get(fileURL(pipe)), 400, "is not a regular file"},
		"a file as a directory":       {a.get(fileURL(file + "/x")), 400, "a part of the path"},
		"a zero byte":                 {a.get(fileURL("/a\x00b")), 400, "cannot be a path"},
		"an endless name":             {a.get(fileURL("/" + strings.Repeat("x", 300))), 400, "cannot be a path"},
		"an unknown user":             {a.get(fileURL(file, "username", "nosuchuser")), 401, "invalid username: 'nosuchuser'"},
		"an upload to a directory":    {post(fileURL(dir), "x"), 400, "is a directory"},
		"an upload below a file":      {post(fileURL(file+"/x"), "x"), 400, "a part of the path"},
		"an upload without a path":    {post("/files", "x"), 400, "path is required"},
		"an upload of an odd kind":    {post(fileURL(file), "x", "Content-Type", "text/plain"), 400, "send multipart/form-data"},
		"an odd compression":          {post(fileURL(file), "x", "Content-Encoding", "br"), 400, `content encoding "br" is not supported`},
		"a compression that is none":  {post(fileURL(file), "x", "Content-Encoding", "gzip"), 400, "no gzip stream"},
		"metadata without a key":      {post(fileURL(file), "x", "X-Metadata-", "red"), 400, "a key is empty"},
		"metadata without an end":     {post(fileURL(file), "x", "X-Metadata-A", strings.Repeat("a", 5000)), 400, "may have 4096"},
		"metadata that is no ASCII":   {post(fileURL(file), "x", "X-Metadata-A", "caf\xe9"), 400, "no printable ASCII"},
		"no acceptable encoding":      {a.do(http.MethodGet, fileURL(file), nil, http.Header{"Accept-Encoding": {"br, *;q=0"}}), 406, "no acceptable encoding"},
		"two files for one path":      {a.do(http.MethodPost, fileURL(file), twice, twiceHeader), 400, "several files were sent for one path"},
		"a form without a file":       {a.do(http.MethodPost, "/files", none, noneHeader), 400, "no field named 'file'"},
		"a file without a name":       {a.do(http.MethodPost, "/files", unnamed, unnamedHeader), 400, "a file has no path"},
		"a form that ends in between": {a.do(http.MethodPost, fileURL(file), strings.NewReader("--b\r\nContent-Disposition: form-data; name=file\r\n\r\nx"), http.Header{"Content-Type": {"multipart/form-data; boundary=b"}}), 400, "broke off"},
	} {
		if c.got.status != c.status || !strings.Contains(c.got.message(t), c.words) {
			t.Errorf("%s: answered with %d %s, want %d and %q", name, c.got.status, c.got.body, c.status, c.words)
		}
	}
}

func TestAFullDiskIsToldAsSuch(t *testing.T) {
	full := filepath.Join(t.TempDir(), "full")
	if err := unix.Mknod(full, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 7))); err != nil { // as /dev/full
		t.Skip("only root can make a device: ", err)
	}
	if err := os.WriteFile(full, []byte("x"), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Skip("devices do not work in this directory: ", err)
	}
	a := start(t)
	got := a.do(http.MethodPost, fileURL(full), strings.NewReader("x"), octets)
	if got.status != http.StatusInsufficientStorage || got.message(t) != "not enough disk space available" {
		t.Errorf("answered with %d %s", got.status, got.body)
	}
}

func FuzzAPathSurvivesTheForm(f *testing.F) {
	f.Add("/home/user/a file.txt", `form-data; name="file"; filename="/a/b"`)
	f.Add("../up", `form-data; name=file; filename*=utf-8''%e2%82%ac`)
	f.Add("quotes \" and \\ and €", `form-data; filename="unclosed`)
	f.Add("", "")
	f.Fuzz(func(t *testing.T, path, odd string) {
		disposition := mime.FormatMediaType("form-data", map[string]string{"name": "file", "filename": path})
		if got := partPath(disposition); disposition != "" && got != path {
			t.Errorf("%q came out as %q", path, got)
		}
		partPath(odd) // whatever it is, it does not panic
	})
}

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// built is what became of a build.
type built struct {
	TemplateID, BuildID, Status string
	Reason                      struct{ Message, Step string }
}

// startBuild starts a build of a template over the base.
func (s *server) startBuild(name string, spec map[string]any) built {
	s.t.Helper()
	b := s.requestBuild(name)
	s.beginBuild(b, spec)
	return b
}

func (s *server) requestBuild(name string) (b built) {
	s.t.Helper()
	status, body := s.call("POST", "/v3/templates", map[string]any{"name": name, "cpuCount": 1, "memoryMB": 512}, "X-API-Key", fullKey)
	if err := json.Unmarshal(body, &b); status != http.StatusAccepted || err != nil {
		s.t.Fatalf("asking for a template: %d %s", status, body)
	}
	return b
}

func (s *server) beginBuild(b built, spec map[string]any) {
	s.t.Helper()
	spec["fromImage"] = "e2bdev/base"
	status, body := s.call("POST", "/v2/templates/"+b.TemplateID+"/builds/"+b.BuildID, spec, "X-API-Key", fullKey)
	if status != http.StatusAccepted {
		s.t.Fatalf("starting a build: %d %s", status, body)
	}
}

// awaitBuild waits for a build's end.
func (s *server) awaitBuild(b built) built {
	s.t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		status, body := s.call("GET", "/templates/"+b.TemplateID+"/builds/"+b.BuildID+"/status", nil, "X-API-Key", fullKey)
		if err := json.Unmarshal(body, &b); status != http.StatusOK || err != nil {
			s.t.Fatalf("a build's status: %d %s", status, body)
		}
		if b.Status == "ready" || b.Status == "error" {
			return b
		}
	}
	s.t.Fatalf("the build of %s does not end", b.TemplateID)
	return b
}

func step(kind string, args ...string) map[string]any {
	return map[string]any{"type": kind, "args": args}
}

// TestHostileBuilds tries what would harm the machine or never end. Each must be
// told to its author, and the next build must go well.
func TestHostileBuilds(t *testing.T) {
	s := start(t, "--sandbox-disk", "96", "--sandbox-pids", "200", "--build-step-timeout", "15s")
	bomb := s.uploadBomb()
	for _, row := range []struct {
		name, reason, step string
		spec               map[string]any
	}{
		{"fills the disk", "exit status", "2", map[string]any{"steps": []any{
			step("RUN", "true"), step("RUN", "cat /dev/zero > /home/user/big"),
		}}},
		{"forks without end", "", "1", map[string]any{"steps": []any{
			step("RUN", "f() { f & f & wait; }; f"),
		}}},
		{"never ends", "did not end within 15s", "1", map[string]any{"steps": []any{
			step("RUN", "trap '' TERM INT; while :; do sleep 1; done"),
		}}},
		{"a start command that fails", "error running start command: exit status 7", "finalize", map[string]any{
			"startCmd": "echo no >&2; exit 7", "readyCmd": "false",
		}},
		{"a start command that is not there", "error running start command: exit status 127", "finalize", map[string]any{
			"startCmd": "nosuchserver --port 80", "readyCmd": "false",
		}},
		{"an archive of 10 GiB in 10 MiB", "failed to copy files", "1", map[string]any{"steps": []any{
			map[string]any{"type": "COPY", "args": []string{".", "/home/user/"}, "filesHash": bomb},
		}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := s.awaitBuild(s.startBuild("hostile", row.spec))
			if b.Status != "error" || !strings.Contains(b.Reason.Message, row.reason) || b.Reason.Step != row.step {
				t.Errorf("%+v; want the step %s with %q", b, row.step, row.reason)
			}
			t.Log(b.Reason.Message)
		})
	}
	if b := s.awaitBuild(s.startBuild("hostile", map[string]any{"steps": []any{step("RUN", "true")}})); b.Status != "ready" {
		t.Errorf("the next build: %+v", b)
	}
	c := s.createFrom("hostile")
	if out, code := s.shell(c, "user", "echo well"); out != "well\n" || code != 0 {
		t.Errorf("its sandbox says %q, %d", out, code)
	}
}

// uploadLink asks for a link to upload an archive to.
func (s *server) uploadLink(hash string) string {
	s.t.Helper()
	b := s.requestBuild("hostile")
	status, body := s.call("GET", "/templates/"+b.TemplateID+"/files/"+hash, nil, "X-API-Key", fullKey)
	var link struct{ URL string }
	if err := json.Unmarshal(body, &link); status != http.StatusCreated || err != nil {
		s.t.Fatalf("asking for a link: %d %s", status, body)
	}
	return link.URL
}

// uploadBomb uploads an archive that unpacks to 10 GiB of zeros, and returns its
// hash.
func (s *server) uploadBomb() (hash string) {
	s.t.Helper()
	const piece, pieces = 64 << 20, 160
	var head, zeros, bomb bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Name: "big", Typeflag: tar.TypeReg, Mode: 0o644, Size: piece * pieces, Format: tar.FormatGNU}); err != nil {
		s.t.Fatal(err)
	}
	compress := func(to io.Writer, data []byte) {
		z := gzip.NewWriter(to)
		_, _ = z.Write(data)
		_ = z.Close()
	}
	// Members of gzip one after the other are one file.
	compress(&bomb, head.Bytes())
	compress(&zeros, make([]byte, piece))
	for range pieces {
		bomb.Write(zeros.Bytes())
	}
	compress(&bomb, make([]byte, 1024))
	hash = strings.Repeat("b", 64)
	req, err := http.NewRequest(http.MethodPut, s.uploadLink(hash), &bomb)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode/100 != 2 {
		s.t.Fatalf("uploading: %s", resp.Status)
	}
	return hash
}

// TestACopyOf10GiB is refused before it is sent.
func TestACopyOf10GiB(t *testing.T) {
	s := start(t)
	link := s.uploadLink(strings.Repeat("a", 64))
	sent := &counter{}
	req, err := http.NewRequest(http.MethodPut, link, sent)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 10 << 30
	req.Header.Set("Expect", "100-continue")
	resp, err := (&http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusRequestEntityTooLarge || !bytes.Contains(body, []byte("4096 MiB")) {
		t.Errorf("it is answered %s %s", resp.Status, body)
	}
	if sent.bytes > 0 {
		t.Errorf("%d bytes of it were read", sent.bytes)
	}
	err = filepath.WalkDir(filepath.Join(s.dir, "uploads"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			err = fmt.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// counter is zeros without end, of which it counts what was read.
type counter struct{ bytes int64 }

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return len(p), nil
}

package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestHostileFiles fills disks and names what nobody should name.
func TestHostileFiles(t *testing.T) {
	a := openArena(t)
	const octets = "application/octet-stream"
	a.attack(t, "a full disk", func(t *testing.T, c sandbox) {
		if status, answer := a.upload(c, "/files?path=/tmp/big", octets, "", io.LimitReader(zeros{}, 400<<20)); status != http.StatusInsufficientStorage {
			t.Errorf("an upload that does not fit is answered with %d %s", status, answer)
		}
		if out, _ := a.shell(c, "user", "head -c 400M /dev/zero > /tmp/more"); !strings.Contains(out, "No space left") {
			t.Errorf("a process that fills the disk is told %q", out)
		}
		a.shell(c, "root", "rm -f /tmp/big /tmp/more")
		if status, answer := a.upload(c, "/files?path=/tmp/small", octets, "", strings.NewReader("fits")); status != http.StatusOK {
			t.Errorf("after making room: %d %s", status, answer)
		}
	})
	a.attack(t, "an archive bomb", func(t *testing.T, c sandbox) {
		var bomb bytes.Buffer
		pack := gzip.NewWriter(&bomb)
		if _, err := io.Copy(pack, io.LimitReader(zeros{}, 400<<20)); err != nil || pack.Close() != nil {
			t.Fatal(err)
		}
		if status, answer := a.upload(c, "/files?path=/tmp/big", octets, "gzip", &bomb); status != http.StatusInsufficientStorage {
			t.Errorf("answered %d %s", status, answer)
		}
		a.wantAgent(t, c)
	})
	a.attack(t, "a file of holes", func(t *testing.T, c sandbox) {
		a.shell(c, "user", "truncate -s 1T /tmp/holes || truncate -s 8G /tmp/holes")
		status, answer := a.call("GET", "/files?path=/tmp/holes", nil, "E2b-Sandbox-Id", c.SandboxID, "E2b-Sandbox-Port", "49983", "X-Access-Token", c.EnvdAccessToken, "Range", "bytes=5000000000-5000000099")
		if status != http.StatusPartialContent || len(answer) != 100 {
			t.Errorf("a part of it: %d, %d bytes", status, len(answer))
		}
		a.wantAgent(t, c)
	})
	a.attack(t, "names without end", func(t *testing.T, c sandbox) {
		long := strings.Repeat("x", 1<<20)
		for path, body := range map[string]any{
			"filesystem.Filesystem/Stat":    map[string]any{"path": long},
			"filesystem.Filesystem/MakeDir": map[string]any{"path": "/tmp/" + long},
			"process.Process/List":          long,
		} {
			if status, answer, err := a.rpc(c, path, body); err != nil || status < 400 || status >= 600 || len(answer) > 8<<20 {
				t.Errorf("%s is answered with %d, %d bytes, %v", path, status, len(answer), err)
			}
		}
		if status, _ := a.upload(c, "/files?path=/tmp/"+long[:5000], octets, "", strings.NewReader("x")); status != http.StatusBadRequest {
			t.Errorf("a name of 5,000 letters: %d", status)
		}
		form := io.MultiReader(strings.NewReader("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\""), io.LimitReader(letters{}, 4<<30))
		if status, _ := a.upload(c, "/files", "multipart/form-data; boundary=b", "", form); status != 0 && status != http.StatusBadRequest {
			t.Errorf("a name of 4 GB: %d", status)
		}
		frame := io.MultiReader(strings.NewReader("\x00\xff\xff\xff\xff"), io.LimitReader(letters{}, 64<<20))
		a.upload(c, "/process.Process/Start", "application/connect+json", "", frame)
		a.wantAgent(t, c)
	})
	a.attack(t, "links that lead out", func(t *testing.T, c sandbox) {
		secret := a.dir + "/secret"
		if err := os.WriteFile(secret, []byte("the machine's"), 0o644); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(secret)
		a.shell(c, "root", fmt.Sprintf(`cd /tmp; ln -s /../../../..%[1]s a; ln -s /proc/1/root%[1]s b; ln -s /proc/self/cwd/../../..%[1]s c; ln -s loop loop; ln -s /dev/zero zero; mkfifo pipe; ln -s / root; ln -s /proc/1/exe agent; true`, secret))
		for _, path := range []string{"/tmp/a", "/tmp/b", "/tmp/c", "/tmp/loop", "/tmp/zero", "/tmp/pipe", "/tmp/root" + secret, "/../../.." + secret, "/tmp/../../.." + secret} {
			status, answer := a.call("GET", "/files?username=root&path="+path, nil, "E2b-Sandbox-Id", c.SandboxID, "E2b-Sandbox-Port", "49983", "X-Access-Token", c.EnvdAccessToken)
			if status < 400 || status >= 500 || bytes.Contains(answer, []byte("machine's")) {
				t.Errorf("%s is answered with %d %.200s", path, status, answer)
			}
		}
		for _, path := range []string{"/tmp/a", "/tmp/root" + secret} { // made inside, as a path of the sandbox's own
			a.upload(c, "/files?username=root&path="+path, octets, "", strings.NewReader("overwritten"))
		}
		if content, err := os.ReadFile(secret); err != nil || string(content) != "the machine's" {
			t.Errorf("the machine's file is %q, %v", content, err)
		}
	})
}

// upload sends a body to a sandbox's agent; 0 means that no answer came.
func (a *arena) upload(c sandbox, path, kind, encoding string, body io.Reader) (int, []byte) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), "POST", a.url+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	for name, value := range map[string]string{"Content-Type": kind, "Content-Encoding": encoding, "E2b-Sandbox-Id": c.SandboxID, "E2b-Sandbox-Port": "49983", "X-Access-Token": c.EnvdAccessToken} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil // cut off while it was sent
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, answer
}

// zeros and letters are bodies that go on.
type (
	zeros   struct{}
	letters struct{}
)

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

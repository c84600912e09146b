package e2e

import (
	"encoding/json"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// buildReady builds a template of templates/ by its one command.
func (s *server) buildReady(name string, args ...string) {
	s.t.Helper()
	binary, err := filepath.Abs("../bin/cube-api")
	if err != nil {
		s.t.Fatal(err)
	}
	run(s.t, s.environment("CUBE_API="+binary), "../templates/"+name, "./build", args...)
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// createFrom creates a sandbox of a template.
func (s *server) createFrom(template string) sandbox {
	s.t.Helper()
	status, body := s.call("POST", "/v2/sandboxes", map[string]any{"templateID": template, "timeout": 300}, "X-API-Key", fullKey)
	var created sandbox
	if err := json.Unmarshal(body, &created); status != http.StatusCreated || err != nil {
		s.t.Fatalf("creating a sandbox of %s: %d %s", template, status, body)
	}
	return created
}

// needPrepared skips a test of a template whose root file system nobody has made:
// Debian's packages take longer to fetch than all other tests.
func needPrepared(t *testing.T, name string) {
	t.Helper()
	if _, err := os.Stat("../templates/" + name + "/files/rootfs.tar"); err != nil {
		t.Skipf("run templates/%s/prepare before (as root, with mmdebstrap): it makes the root file system out of Debian's packages", name)
	}
}

// TestHTTPBin asks the template's server through its port's address as soon as a
// sandbox is there.
func TestHTTPBin(t *testing.T) {
	s := start(t)
	s.buildReady("httpbin")
	c := s.createFrom("httpbin")
	resp := raw(t, s, "GET /anything/there?a=1 HTTP/1.1\r\nHost: 8080-"+c.SandboxID+".localhost\r\nX-Asked: yes\r\n\r\n")
	var said struct {
		Args, Headers map[string][]string
		URL           string
	}
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("it answers %s, %v", resp.Status, err)
	}
	if len(said.Args["a"]) != 1 || len(said.Headers["X-Asked"]) != 1 || !strings.Contains(said.URL, "/anything/there") {
		t.Errorf("it has seen %+v", said)
	}
}

// TestDebian uses base as it is made out of Debian's packages.
func TestDebian(t *testing.T) {
	needPrepared(t, "base")
	s := start(t)
	s.buildReady("base", "--debian")
	c := s.createFrom("debian")
	for _, row := range []struct{ user, script, want string }{
		{"user", `python3 -c 'import sqlite3, ssl, venv; print(6*7)'; python -c 'print(6*7)'`, "42\n42\n"},
		{"user", `node -e 'console.log(6*7)'; cd && npm init -y >/dev/null && test -s package.json && echo ok`, "42\nok\n"},
		{"user", `cd && git init -q r && cd r && git -c user.name=a -c user.email=a@b.example commit -q --allow-empty -m first && git log --format=%s`, "first\n"},
		{"user", `cd && echo 'int main(){return 42;}' > a.c && gcc a.c && { ./a.out; echo $?; }`, "42\n"},
		{"user", `id -un; sudo id -un; pwd`, "user\nroot\n/home/user\n"},
		{"root", `. /etc/os-release; echo $ID; apt-get --version | head -c 3`, "debian\napt"},
	} {
		if out, code := s.shell(c, row.user, row.script); out != row.want || code != 0 {
			t.Errorf("%s: %q, exit code %d; want %q", row.script, out, code, row.want)
		}
	}
}

// TestDesktopBrowser has Playwright drive the Chromium of a sandbox, by the address
// that its port has on the internet.
func TestDesktopBrowser(t *testing.T) {
	needPrepared(t, "desktop-browser")
	_, environment, under := startDomain(t)
	binary, err := filepath.Abs("../bin/cube-api")
	if err != nil {
		t.Fatal(err)
	}
	picture := filepath.Join(t.TempDir(), "page.png")
	if keep := os.Getenv("SCREENSHOT"); keep != "" {
		picture = keep
	}
	environment = append(environment, "CUBE_API="+binary, "SCREENSHOT="+picture)
	run(t, append(environment, "E2B_API_URL=https://api.cube.test:8443"), "../templates/desktop-browser", "unshare", append(under, "./build", "--debian")...)
	run(t, environment, "js", "unshare", append(under, "node", "--test", "--test-timeout=180000", "browser.test.mjs")...)
	if t.Failed() {
		t.FailNow()
	}
	file, err := os.Open(picture)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	page, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	r, g, b, _ := page.At(page.Bounds().Dx()-5, page.Bounds().Dy()-5).RGBA()
	if r>>8 != 0x10 || g>>8 != 0x80 || b>>8 != 0xc0 {
		t.Errorf("the page's corner is %x %x %x, not the colour that it was given", r>>8, g>>8, b>>8)
	}
}

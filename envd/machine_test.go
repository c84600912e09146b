package envd

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// ownMachine is a machine below a directory, with the files of a small system.
func ownMachine(t *testing.T) (m machine, read func(string) string, names *[]string) {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"etc/hostname": "cube\n", "etc/hosts": "127.0.0.1\tlocalhost\n", "etc/ssl/certs/ca-certificates.crt": "the first\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read = func(name string) string {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	names = new([]string)
	return machine{root: root, name: func(name string) error { *names = append(*names, name); return nil }}, read, names
}

func TestTheMachineIsNamedForTheSandbox(t *testing.T) {
	m, read, names := ownMachine(t)
	for _, id := range []string{"i0000000000000000000a", "i0000000000000000000b"} { // a restored one gets another name
		m.follow(initRequest{SandboxID: id, TemplateID: "base"})
		if got := read("etc/hosts"); got != "127.0.0.1\tlocalhost\n127.0.1.1\t"+id+"\n" {
			t.Errorf("/etc/hosts is %q", got)
		}
		if got := read("etc/hostname"); got != id+"\n" {
			t.Errorf("/etc/hostname is %q", got)
		}
		if sandbox, template := read("run/e2b/.E2B_SANDBOX_ID"), read("run/e2b/.E2B_TEMPLATE_ID"); sandbox != id || template != "base" || read("run/e2b/.E2B_SANDBOX") != "true" {
			t.Errorf("the marks say %q, %q", sandbox, template)
		}
	}
	if got := strings.Join(*names, " "); got != "i0000000000000000000a i0000000000000000000b" {
		t.Errorf("the names were %s", got)
	}
}

func TestWhatCodeInsidePutInTheWayHoldsNothingUp(t *testing.T) {
	m, read, _ := ownMachine(t)
	hosts := m.path("etc/hosts")
	if err := os.Remove(hosts); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(hosts, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path("run"), nil, 0o644); err != nil { // where a directory was
		t.Fatal(err)
	}
	m.follow(initRequest{SandboxID: "i0000000000000000000a"})
	if got := read("etc/hostname"); got != "cube\n" {
		t.Errorf("the hostname is %q", got)
	}
}

func TestCertificatesAreAddedOnceAndGoAgain(t *testing.T) {
	m, read, _ := ownMachine(t)
	if err := os.Symlink("certs/ca-certificates.crt", m.path("etc/ssl/cert.pem")); err != nil {
		t.Fatal(err)
	}
	const bundle = "etc/ssl/certs/ca-certificates.crt"
	for _, step := range []struct{ give, want string }{
		{"", "the first\n"},
		{"ours", "the first\n" + bundleBegin + "ours\n" + bundleEnd},
		{"ours", "the first\n" + bundleBegin + "ours\n" + bundleEnd},
		{"ours too\n\n", "the first\n" + bundleBegin + "ours too\n" + bundleEnd},
		{"", "the first\n"},
	} {
		if err := m.trust(step.give); err != nil {
			t.Fatal(err)
		}
		if got := read(bundle); got != step.want {
			t.Errorf("after %q the bundle is %q, want %q", step.give, got, step.want)
		}
		if step.give != "" && read(extraCertificate) != strings.TrimSpace(step.give)+"\n" {
			t.Errorf("update-ca-certificates would add %q", read(extraCertificate))
		}
	}
	if _, err := os.Lstat(m.path(extraCertificate)); err == nil {
		t.Error("update-ca-certificates would add what is trusted no more")
	}
	if entries, err := os.ReadDir(m.path("etc/ssl/certs")); err != nil || len(entries) != 1 {
		t.Errorf("beside the bundle there are %v, %v", entries, err)
	}
	if info, err := os.Stat(m.path(bundle)); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("not everybody can read the bundle: %v, %v", info, err)
	}
}

func TestARootWithoutCertificatesGetsThem(t *testing.T) {
	m, read, _ := ownMachine(t)
	if err := os.RemoveAll(m.path("etc/ssl")); err != nil {
		t.Fatal(err)
	}
	if err := m.trust("ours\n"); err != nil {
		t.Fatal(err)
	}
	if got := read(bundles[0]); !strings.Contains(got, "ours\n") {
		t.Errorf("the bundle is %q", got)
	}
}

func TestCertificatesThatCannotBeAddedAreAFailure(t *testing.T) {
	m, _, _ := ownMachine(t)
	bundle := m.path("etc/ssl/certs/ca-certificates.crt")
	if err := os.Remove(bundle); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(bundle, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.trust("ours\n"); err == nil {
		t.Error("nobody is told")
	}
}

func TestARefusedInitChangesNoMachine(t *testing.T) {
	m, _, names := ownMachine(t)
	a := listen(t)
	a.handler.machine = m
	a.mustInit("", initRequest{HostKey: "key", SandboxID: "i0000000000000000000a"})
	if got := a.init("guess", initRequest{SandboxID: "i0000000000000000000b", CABundle: "theirs"}); got.status != http.StatusUnauthorized || len(*names) != 1 {
		t.Errorf("answered %d, the names were %v", got.status, *names)
	}
	if got, _ := os.ReadFile(m.path(extraCertificate)); len(got) > 0 {
		t.Errorf("a stranger's certificates are trusted: %s", got)
	}
}

func TestCertificatesThatCannotBeAddedFailTheInit(t *testing.T) {
	m, _, _ := ownMachine(t)
	a := listen(t)
	a.handler.machine = m
	if err := os.Remove(m.path("etc/hosts")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path("usr"), nil, 0o644); err != nil { // where they would go
		t.Fatal(err)
	}
	if got := a.init("", initRequest{HostKey: "key", CABundle: "ours"}); got.status != http.StatusInternalServerError {
		t.Errorf("init is answered with %d", got.status)
	}
	if got := a.get("/envs"); got.status != http.StatusServiceUnavailable {
		t.Errorf("after it the agent serves: %d", got.status)
	}
	a.mustInit("", initRequest{HostKey: "key"})
}

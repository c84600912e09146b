package envd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what of the sandbox around the agent follows /init: its name, where
// E2B's users look for who they are, and whom it trusts. The zero value leaves
// all as it is: an agent that is no sandbox's first process owns no machine.
//
// Code inside may change every one of these files, as the agent did: nothing
// here is read again, and what cannot be written is no reason to fail, but for
// the certificates, without which a sandbox's connections would be refused.
type machine struct {
	root string // "/", or a directory of a test's; "" for none
	name func(string) error
}

// runDir is where E2B's agent leaves who the sandbox is, for programs inside.
const runDir = "run/e2b"

// bundles are where programs look for the certificates that they trust: Debian
// and what follows it, Fedora and what follows it, Alpine and OpenSSL's default.
var bundles = []string{
	"etc/ssl/certs/ca-certificates.crt", "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "etc/ssl/cert.pem",
}

// extraCertificate is what update-ca-certificates adds when it makes the bundle
// anew. The name is E2B's.
const extraCertificate = "usr/local/share/ca-certificates/e2b-ca.crt"

// The lines around what we have added to a bundle, which later settings replace.
const (
	bundleBegin = "# Begin of the server's certificates\n"
	bundleEnd   = "# End of the server's certificates\n"
)

// follow names the machine as the settings say. A sandbox that was restored from
// another's memory becomes itself here.
func (m machine) follow(r initRequest) {
	if m.root == "" {
		return
	}
	if r.SandboxID != "" {
		m.rename(r.SandboxID)
	}
	m.tell(r)
}

// rename gives the machine its name, and lets it find itself by it: sudo and
// others look their own name up.
func (m machine) rename(name string) {
	if old, err := os.Hostname(); err != nil || old != name {
		_ = m.name(name)
	}
	const own = "127.0.1.1\t"
	for _, file := range []string{"etc/hostname", "etc/hosts"} {
		if info, err := os.Stat(m.path(file)); err != nil || !info.Mode().IsRegular() || info.Size() > maxHosts {
			return // not what it was: a pipe would keep us waiting
		}
	}
	_ = os.WriteFile(m.path("etc/hostname"), []byte(name+"\n"), 0o644)
	hosts, err := os.ReadFile(m.path("etc/hosts"))
	if err != nil {
		return
	}
	lines := slices.DeleteFunc(strings.SplitAfter(string(hosts), "\n"), func(line string) bool {
		return line == "" || strings.HasPrefix(line, own)
	})
	if n := len(lines); n > 0 && !strings.HasSuffix(lines[n-1], "\n") {
		lines[n-1] += "\n"
	}
	_ = os.WriteFile(m.path("etc/hosts"), []byte(strings.Join(lines, "")+own+name+"\n"), 0o644)
}

// tell leaves E2B's marks.
func (m machine) tell(r initRequest) {
	_ = os.MkdirAll(m.path(runDir), 0o755)
	for _, mark := range []struct{ name, content string }{
		{".E2B_SANDBOX", "true"}, {".E2B_SANDBOX_ID", r.SandboxID}, {".E2B_TEMPLATE_ID", r.TemplateID},
	} {
		_ = os.WriteFile(m.path(filepath.Join(runDir, mark.name)), []byte(mark.content), 0o644)
	}
}

// trust adds certificates to those that programs inside trust, in the place of
// those that were added before. Without any it touches nothing that it has not
// touched before.
func (m machine) trust(certificates string) error {
	if m.root == "" {
		return nil
	}
	extra := m.path(extraCertificate)
	if certificates == "" {
		if _, err := os.Lstat(extra); err != nil {
			return nil
		}
		_ = os.Remove(extra)
	} else {
		certificates = strings.TrimRight(certificates, "\n") + "\n"
		if err := os.MkdirAll(filepath.Dir(extra), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(extra, []byte(certificates), 0o644); err != nil {
			return err
		}
	}
	var changed []string
	for _, bundle := range bundles {
		// Several names may be links to one bundle, or one of them missing.
		real, err := filepath.EvalSymlinks(m.path(bundle))
		if err != nil || slices.Contains(changed, real) {
			continue
		}
		changed = append(changed, real)
		if err := replaceOurs(real, certificates); err != nil {
			return err
		}
	}
	if len(changed) == 0 && certificates != "" { // an image without certificates: these are all
		bundle := m.path(bundles[0])
		if err := os.MkdirAll(filepath.Dir(bundle), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(bundle, []byte(bundleBegin+certificates+bundleEnd), 0o644); err != nil {
			return err
		}
	}
	return m.trustInJava(certificates)
}

// Bounds of files that are read, in bytes: more than any needs. Code inside may
// have put anything in their place.
const (
	maxHosts  = 1 << 20
	maxBundle = 16 << 20
)

// replaceOurs writes a bundle anew. It is replaced, so that a program that reads
// it meanwhile sees the old one or the new one.
func replaceOurs(bundle, certificates string) error {
	info, err := os.Stat(bundle)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxBundle {
		return errors.Join(err, &fs.PathError{Op: "trust", Path: bundle, Err: unix.EINVAL})
	}
	content, err := os.ReadFile(bundle)
	if err != nil {
		return err
	}
	text := string(content)
	if before, rest, found := strings.Cut(text, bundleBegin); found {
		_, after, _ := strings.Cut(rest, bundleEnd)
		text = before + after
	}
	if certificates != "" {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += bundleBegin + certificates + bundleEnd
	}
	return replaceFile(bundle, []byte(text))
}

// replaceFile replaces a file that everybody may read.
func replaceFile(name string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".trust-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // when it was not renamed
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

// isReadOnly tells whether a file could not be changed because it is of a root
// that nobody changes.
func isReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }

// trusting are the variables by which programs that do not look at the system's
// certificates find them, for as long as some were added.
func (m machine) trusting(certificates string) map[string]string {
	if m.root == "" || certificates == "" {
		return nil
	}
	bundle := bundles[0]
	for _, name := range bundles {
		if _, err := os.Stat(m.path(name)); err == nil {
			bundle = name
			break
		}
	}
	return map[string]string{
		"SSL_CERT_FILE":       m.path(bundle), // OpenSSL and what is built on it, Go
		"REQUESTS_CA_BUNDLE":  m.path(bundle), // Python's requests, pip, botocore
		"CURL_CA_BUNDLE":      m.path(bundle),
		"NODE_EXTRA_CA_CERTS": m.path(extraCertificate),
	}
}

func (m machine) path(name string) string { return filepath.Join(m.root, name) }

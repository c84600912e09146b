package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// domainAddress is one of loopback that nothing else uses.
const domainAddress = "127.0.0.154"

// startDomain starts a server that needs one variable, and returns how a user's
// program is started who has its name server and trusts its root.
func startDomain(t *testing.T) (s *server, environment, under []string) {
	t.Helper()
	// The root is there before the server: it is the data directory's.
	dir := t.TempDir()
	root := filepath.Join(dir, "root.pem")
	s = start(t, "--bind", domainAddress+":8443", "--domain", "cube.test", "--tls", "internal", "--dns-bind", domainAddress+":53")
	pem, err := exec.Command("../bin/cube-api", "ca", "--data-dir", s.dir, "--domain", "cube.test").Output()
	if err != nil || !bytes.HasPrefix(pem, []byte("-----BEGIN CERTIFICATE-----")) || bytes.Contains(pem, []byte("KEY")) {
		t.Fatalf("cube-api ca prints %s, %v", pem, err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "api.cube.test"}}}
	resolv := filepath.Join(dir, "resolv.conf")
	for name, text := range map[string]string{root: string(pem), resolv: "nameserver " + domainAddress + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	environment = s.environment("E2B_API_URL=", "E2B_SANDBOX_URL=", "E2B_DOMAIN=cube.test:8443", "NODE_EXTRA_CA_CERTS="+root, "SSL_CERT_FILE="+root)
	return s, environment, []string{"-m", "--propagation", "private", "sh", "-c",
		`mount --bind "$0" "$(readlink -f /etc/resolv.conf)" && exec "$@"`, resolv}
}

func TestOneVariableForTheJavaScriptSDK(t *testing.T) {
	_, environment, under := startDomain(t)
	run(t, environment, "js", "unshare", append(under, "node", "--test", "--test-timeout=180000", "domain.test.mjs")...)
}

func TestOneVariableForThePythonSDK(t *testing.T) {
	_, environment, under := startDomain(t)
	run(t, environment, "python", "unshare", append(under, ".venv/bin/python", "domain.py")...)
}

func TestOneHostForAllSandboxesOverHTTP2(t *testing.T) {
	s, environment, under := startDomain(t)
	created := s.create()
	for _, version := range []string{"--http2", "--http1.1"} {
		curl := exec.CommandContext(t.Context(), "unshare", append(under, "curl", "-sS", version, "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "--cacert", value(environment, "SSL_CERT_FILE"),
			"-H", "E2b-Sandbox-Id: "+created.SandboxID, "-H", "E2b-Sandbox-Port: 49983", "https://sandbox.cube.test:8443/health")...)
		out, err := curl.CombinedOutput()
		if want := map[string]string{"--http2": "204 2", "--http1.1": "204 1.1"}[version]; err != nil || string(out) != want {
			t.Errorf("curl %s: %s, %v; want %s", version, out, err, want)
		}
	}
	// Who speaks plain HTTP is told so, and never served.
	resp, err := http.Get("http://" + domainAddress + ":8443/health")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: %s %s", resp.Status, text)
	}
}

// value of a variable.
func value(environment []string, name string) string {
	last := ""
	for _, line := range environment {
		if text, found := strings.CutPrefix(line, name+"="); found {
			last = text
		}
	}
	return last
}

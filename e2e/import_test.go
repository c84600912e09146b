package e2e

import (
	"archive/tar"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTemplateImport makes a template of a root file system, without a registry.
func TestTemplateImport(t *testing.T) {
	s := start(t)
	archive := filepath.Join(t.TempDir(), "rootfs.tar")
	file, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(file)
	const content = "from the archive"
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "etc/mark", Mode: 0o644, Size: int64(len(content))},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "../bin/cube-api", "template", "import", "tiny", archive)
	cmd.Env = s.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var box sandbox
	status, body := s.call("POST", "/v2/sandboxes", map[string]any{"templateID": "tiny", "timeout": 300}, "X-API-Key", fullKey)
	if err := json.Unmarshal(body, &box); err != nil || status != http.StatusCreated {
		t.Fatalf("creating a sandbox: %d %s", status, body)
	}
	status, body = s.call("GET", "/files?path=/etc/mark&username=user", nil,
		"E2b-Sandbox-Id", box.SandboxID, "E2b-Sandbox-Port", "49983", "X-Access-Token", box.EnvdAccessToken)
	if status != http.StatusOK || strings.TrimSpace(string(body)) != content {
		t.Errorf("the template's file is %d %q", status, body)
	}
}

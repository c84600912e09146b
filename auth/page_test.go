package auth

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestThePagesPythonCallback runs the page's example as it stands there, with
// FastAPI from PyPI in a virtual environment that is kept for the next run.
func TestThePagesPythonCallback(t *testing.T) {
	python := fastAPI(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	u := "http://" + listener.Addr().String() + "/verify"
	listener.Close() // the file is the service's now

	cmd := exec.CommandContext(t.Context(), python, "-m", "uvicorn", "page_callback:app", "--fd", "3", "--log-level", "warning")
	cmd.Dir = "testdata"
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// Connections wait in the socket until the service accepts them.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("the service does not start: %v", err)
	}
	resp.Body.Close()
	checkPageRules(t, newHouse(t, Config{CallbackURL: u}))
}

// fastAPI returns a Python that has FastAPI.
func fastAPI(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "cube-tests", "page-callback")
	python := filepath.Join(dir, "bin", "python")
	if exec.Command(python, "-c", "import fastapi, uvicorn").Run() == nil {
		return python
	}
	for _, args := range [][]string{
		{"python3", "-m", "venv", "--clear", dir},
		{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "fastapi", "uvicorn"},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatal(fmt.Errorf("%v: %w\n%s", args, err, out))
		}
	}
	return python
}

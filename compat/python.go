package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// pythonSDK is the suite of the Python SDK.
type pythonSDK struct{}

// What of it needs a server.
const pythonLive = `^tests/((async/api_async|sync/api_sync)/test_sbx_(info|kill|list|snapshot)` +
	`|(async/sandbox_async|sync/sandbox_sync)/(commands|files|pty)/test_\w+` +
	`|(async/sandbox_async|sync/sandbox_sync)/test_(connect|create|fork|host|internet_access|kill|metrics|network|secure|snapshot|snapshot_api|snapshot_filesystem_only|timeout)` +
	`|(async/template_async|sync/template_sync)/(test_(background_build|build|exists|tags)|methods/test_(apt_install|bun_install|from_methods|make_symlink|npm_install|pip_install|run_cmd))` +
	`|shared/git/test_(add|branches|clone|commit|config|dangerouslyAuthenticate|dangerously_authenticate|init|remote|reset|restore|status|sync)` +
	`)\.py$`

func (pythonSDK) install(ctx context.Context, o options, s suite, dir string) error {
	of := s.name() + " " + s.tag
	fresh, err := checkout(ctx, o.e2b, s.tag, dir, of, "packages/python-sdk/tests", "packages/python-sdk/pytest.ini")
	if err != nil || !fresh {
		return err
	}
	runner := newRunner
	if s.version == "2.8.1" {
		runner = []string{"pytest>=7.4,<8", "pytest-asyncio>=0.23.7,<0.24"}
	}
	return installPython(ctx, dir, of, append(runner, "e2b=="+s.version)...)
}

// newRunner and the other runner are of the suites' time, as event loops end
// elsewhere since.
var newRunner = []string{"pytest>=9.0.3,<10", "pytest-asyncio>=1.3.0,<2"}

// installPython installs packages, and what runs the suites.
func installPython(ctx context.Context, dir, of string, packages ...string) error {
	if err := do(ctx, dir, "python3", "-m", "venv", ".venv"); err != nil {
		return err
	}
	packages = append(packages, "pytest-xdist>=3.3.1,<4", "pytest-dotenv>=0.5.2,<0.6", "pytest-timeout>=2.4.0,<3")
	if err := do(ctx, dir, ".venv/bin/pip", append([]string{"install", "--quiet", "--disable-pip-version-check"}, packages...)...); err != nil {
		return err
	}
	return installed(dir, of)
}

func (pythonSDK) run(ctx context.Context, o options, _ suite, dir string, w *world) ([]result, error) {
	return pytest(ctx, o, dir, filepath.Join(dir, "packages/python-sdk"), pythonLive, w)
}

// pytest runs the files of a package that match a pattern.
func pytest(ctx context.Context, o options, dir, pkg, pattern string, w *world) ([]result, error) {
	files, err := testFiles(pkg, pattern, o.files)
	if err != nil {
		return nil, err
	}
	if err := w.buildTemplate(ctx, o.server, "httpbin"); err != nil {
		return nil, err
	}
	report := filepath.Join(dir, "results.xml")
	_ = os.Remove(report)
	program := append([]string{filepath.Join(dir, ".venv/bin/python"), "-m", "pytest", "-n", strconv.Itoa(o.workers),
		"--timeout", "60", "--junitxml", report}, files...)
	out, runErr := w.run(ctx, pkg, nil, program...)
	_ = os.WriteFile(filepath.Join(dir, "output.txt"), out, 0o644)
	data, err := os.ReadFile(report)
	if err != nil {
		return nil, fmt.Errorf("pytest wrote no results (%w, %w):\n%s", runErr, err, tail(out))
	}
	return parseJUnit(data)
}

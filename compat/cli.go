package main

import (
	"context"
	"os"
	"path/filepath"
)

// cli is the suite of the command line tool, run against the package as it is
// published.
type cli struct{}

// What of it needs a server.
const cliLive = `^tests/commands/sandbox/(backend_integration|exec_pipe)\.test\.ts$`

func (cli) install(ctx context.Context, o options, s suite, dir string) error {
	of := s.name() + " " + s.tag
	fresh, err := checkout(ctx, o.e2b, s.tag, dir, of, "packages/cli")
	if err != nil || !fresh {
		return err
	}
	pkg := filepath.Join(dir, "packages/cli")
	if err := installNode(ctx, dir, pkg, map[string]string{"e2b": "2.51.0", "@e2b/cli": s.version}, of); err != nil {
		return err
	}
	// Where the tests look for the built tool.
	return os.Symlink(filepath.Join(dir, "node_modules/@e2b/cli/dist"), filepath.Join(pkg, "dist"))
}

func (cli) run(ctx context.Context, o options, _ suite, dir string, w *world) ([]result, error) {
	home := filepath.Join(w.dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		return nil, err
	}
	return vitest(ctx, o, dir, filepath.Join(dir, "packages/cli"), cliLive, w, "HOME="+home)
}

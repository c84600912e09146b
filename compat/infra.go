package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// infra is the integration suite of E2B's own server, in Go. It speaks plain
// HTTP and the routes of the first version. Two of its tests are left out: they
// ask an inner service of that server by gRPC, not the API.
type infra struct{}

func (infra) install(ctx context.Context, o options, s suite, dir string) error {
	of := s.name() + " " + s.tag
	fresh, err := checkout(ctx, o.infra, s.tag, dir, of,
		"tests/integration", "packages/shared", "packages/auth", "packages/db", "packages/clickhouse", "packages/envd")
	if err != nil || !fresh {
		return err
	}
	if err := do(ctx, filepath.Join(dir, "tests/integration"), "go", "build", "-mod=mod", "./internal/..."); err != nil {
		return err
	}
	return installed(dir, of)
}

func (infra) run(ctx context.Context, o options, _ suite, dir string, w *world) ([]result, error) {
	pkg := filepath.Join(dir, "tests/integration")
	files, err := testFiles(pkg, `^internal/tests/.*_test\.go$`, o.files)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	program := []string{"go", "test", "-mod=mod", "-json", "-count=1", "-p", "1", "-parallel", strconv.Itoa(2 * o.workers), "-timeout", "20m", "-skip", "^(TestSandboxObjectNotFound|TestList)$"}
	for _, file := range files {
		if p := "./" + filepath.ToSlash(filepath.Dir(file)); !seen[p] {
			seen[p] = true
			program = append(program, p)
		}
	}
	environment := []string{
		"TESTS_API_SERVER_URL=" + publicURL, "TESTS_ENVD_PROXY=" + publicURL, "TESTS_SANDBOX_TEMPLATE_ID=base",
		// This server's credentials are sent in either way.
		"TESTS_E2B_API_KEY=" + w.key, "TESTS_E2B_ACCESS_TOKEN=" + w.key,
		"TESTS_SANDBOX_TEAM_ID=" + team, "TESTS_SANDBOX_USER_ID=00000000-0000-0000-0000-000000000002",
		// Nobody listens there.
		"TESTS_ORCHESTRATOR_HOST=127.0.0.1:9", "POSTGRES_CONNECTION_STRING=postgres://nobody@127.0.0.1:9/none?connect_timeout=1",
	}
	out, runErr := w.run(ctx, pkg, environment, program...)
	_ = os.WriteFile(filepath.Join(dir, "output.txt"), out, 0o644)
	results, err := parseGoTest(out, "github.com/e2b-dev/infra/tests/integration/internal/tests/")
	if err == nil && len(results) == 0 {
		err = fmt.Errorf("no test ran (%w):\n%s", runErr, strings.TrimSpace(string(tail(out))))
	}
	return results, err
}

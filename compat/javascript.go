package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// jsSDK is the suite of the JavaScript SDK.
type jsSDK struct{}

// What of it needs a server; the rest tests the SDK against itself.
const jsLive = `^tests/(api/(info|kill|list|snapshot)` +
	`|sandbox/(connect|create|fork|host|internetAccess|kill|lifecyclePayload|metrics|network|secure|snapshot|snapshot-api|timeout)` +
	`|sandbox/(commands/(connect|envVars|kill|list|run|sandboxKilledDuringRun|sendStdin)|pty/\w+)` +
	`|sandbox/files/(contentEncoding|exists|info|list|makeDir|metadata|read|remove|rename|signing|watch|write)` +
	`|sandbox/git/(add|branches|clone|commit|config|dangerouslyAuthenticate|init|remote|reset|restore|status|sync)` +
	`|template/(backgroundBuild|build|exists|tags)|template/methods/(aptInstall|bunInstall|fromMethods|makeSymlink|npmInstall|pipInstall|runCmd)` +
	`)\.test\.ts$`

//go:embed vitest.config.mts
var vitestConfig []byte

func (jsSDK) install(ctx context.Context, o options, s suite, dir string) error {
	fresh, err := checkout(ctx, o.e2b, s.tag, dir, s.name()+" "+s.tag, "packages/js-sdk")
	if err != nil || !fresh {
		return err
	}
	return installNode(ctx, dir, filepath.Join(dir, "packages/js-sdk"), map[string]string{"e2b": s.version}, s.name()+" "+s.tag)
}

// installNode installs what a package of the repository depends on, and vitest
// in the version of that time, without the tools that only its build needs.
func installNode(ctx context.Context, dir, pkg string, more map[string]string, of string) error {
	data, err := os.ReadFile(filepath.Join(pkg, "package.json"))
	if err != nil {
		return err
	}
	var manifest struct{ Dependencies, OptionalDependencies, DevDependencies map[string]string }
	if err := json.Unmarshal(data, &manifest); err != nil {
		return err
	}
	wanted := map[string]string{}
	maps.Copy(wanted, manifest.OptionalDependencies)
	maps.Copy(wanted, manifest.Dependencies)
	for name, version := range manifest.DevDependencies {
		if slices.Contains([]string{"vitest", "msw", "dotenv", "json2md", "error-stack-parser-es"}, name) {
			wanted[name] = version
		}
	}
	if wanted["vitest"] == "" {
		wanted["vitest"] = "^3.2.4"
	}
	maps.Copy(wanted, more)
	ours, err := json.Marshal(map[string]any{"private": true, "type": "module", "dependencies": wanted})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), ours, 0o644); err != nil {
		return err
	}
	if err := do(ctx, dir, "npm", "install", "--no-audit", "--no-fund", "--legacy-peer-deps"); err != nil {
		return err
	}
	return installed(dir, of)
}

func (jsSDK) run(ctx context.Context, o options, s suite, dir string, w *world) ([]result, error) {
	// Where the tests are of another version than the SDK, they drive the
	// package; else the source beside them, which is what the package is made of.
	if err := w.buildTemplate(ctx, o.server, "httpbin"); err != nil {
		return nil, err
	}
	alias := ""
	if !strings.HasSuffix(s.tag, "@"+s.version) {
		alias = "e2b"
	}
	return vitest(ctx, o, dir, filepath.Join(dir, "packages/js-sdk"), jsLive, w, "COMPAT_ALIAS="+alias)
}

// vitest runs the files of a package that match a pattern.
func vitest(ctx context.Context, o options, dir, pkg, pattern string, w *world, environment ...string) ([]result, error) {
	files, err := testFiles(pkg, pattern, o.files)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(pkg, "compat.config.mts")
	if err := os.WriteFile(config, vitestConfig, 0o644); err != nil {
		return nil, err
	}
	report := filepath.Join(dir, "results.json")
	// The old runner would read this one too, and want a browser.
	for _, stale := range []string{report, filepath.Join(pkg, "vitest.workspace.mts")} {
		_ = os.Remove(stale)
	}
	environment = append(environment, "COMPAT_FILES="+strings.Join(files, ","), "COMPAT_WORKERS="+strconv.Itoa(o.workers), "CI=1")
	out, runErr := w.run(ctx, pkg, environment, filepath.Join(dir, "node_modules/.bin/vitest"), "run",
		"--config", config, "--reporter=json", "--reporter=default", "--outputFile.json="+report)
	_ = os.WriteFile(filepath.Join(dir, "output.txt"), out, 0o644)
	data, err := os.ReadFile(report)
	if err != nil {
		return nil, fmt.Errorf("vitest wrote no results (%w, %w):\n%s", runErr, err, tail(out))
	}
	results, err := parseVitest(data, pkg)
	if err == nil && len(results) == 0 {
		err = fmt.Errorf("vitest ran no test:\n%s", tail(out))
	}
	return results, err
}

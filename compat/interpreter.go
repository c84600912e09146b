package main

import (
	"context"
	"path/filepath"
)

// jsInterpreter and pythonInterpreter are the suites of the code-interpreter
// packages, against templates/code-interpreter-v1.
type (
	jsInterpreter     struct{}
	pythonInterpreter struct{}
)

// What of them needs a server.
const (
	jsInterpreterLive = `^tests/((charts|env_vars|images)/\w+` +
		`|(bash|basic|callbacks|contexts|cwd|data|defaultKernels|displayData|executionCount|interrupt|kernels|killedSandbox|reconnect|statefulness|streaming|systemd)` +
		`)\.test\.ts$`
	pythonInterpreterLive = `^tests/((charts|images)/test_\w+|(async|sync)/(env_vars/)?test_\w+)\.py$`
)

func (jsInterpreter) install(ctx context.Context, o options, s suite, dir string) error {
	of := s.name() + " " + s.tag
	fresh, err := checkout(ctx, o.interpreter, s.tag, dir, of, "js")
	if err != nil || !fresh {
		return err
	}
	return installNode(ctx, dir, filepath.Join(dir, "js"), map[string]string{"@e2b/code-interpreter": s.version}, of)
}

func (jsInterpreter) run(ctx context.Context, o options, _ suite, dir string, w *world) ([]result, error) {
	if err := w.buildInterpreter(ctx, o.server); err != nil {
		return nil, err
	}
	return vitest(ctx, o, dir, filepath.Join(dir, "js"), jsInterpreterLive, w, "COMPAT_ALIAS=@e2b/code-interpreter")
}

func (pythonInterpreter) install(ctx context.Context, o options, s suite, dir string) error {
	of := s.name() + " " + s.tag
	fresh, err := checkout(ctx, o.interpreter, s.tag, dir, of, "python/tests", "python/pytest.ini")
	if err != nil || !fresh {
		return err
	}
	return installPython(ctx, dir, of, append(newRunner, "e2b-code-interpreter=="+s.version, "matplotlib>=3.8,<4")...)
}

func (pythonInterpreter) run(ctx context.Context, o options, _ suite, dir string, w *world) ([]result, error) {
	if err := w.buildInterpreter(ctx, o.server); err != nil {
		return nil, err
	}
	return pytest(ctx, o, dir, filepath.Join(dir, "python"), pythonInterpreterLive, w)
}

// buildInterpreter builds the template as a user does. Its packages come from their
// registries, which are not on the suites' internet, before.
func (w *world) buildInterpreter(ctx context.Context, server string) error {
	const name = "code-interpreter-v1"
	if err := do(ctx, filepath.Join("templates", name), "./prepare"); err != nil {
		return err
	}
	return w.buildTemplate(ctx, server, name, "PREPARED=1")
}

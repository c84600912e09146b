package build

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cube"
)

// untilOver is a command that goes on, as a server does.
func untilOver(ctx context.Context) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

func TestAStartCommandGoesOnInTheMemory(t *testing.T) {
	w := newWorld(t)
	var tries atomic.Int32
	w.run = func(ctx context.Context, c ran, print func(string)) (string, error) {
		switch c.command {
		case "serve":
			if _, ok := ctx.Deadline(); ok {
				t.Error("the start command has a deadline, with which the agent would end it")
			}
			print("Hello, World!\n")
			return untilOver(ctx)
		case "ready":
			if tries.Add(1) < 2 {
				return "exit status 1", nil
			}
		}
		return "exit status 0", nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	result, err := w.build(ctx, Spec{StartCmd: "serve", ReadyCmd: "ready", Steps: []Step{
		{Type: "ENV", Args: []string{"A", "1"}}, {Type: "WORKDIR", Args: []string{"/app"}}, {Type: "USER", Args: []string{"app"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.files(result.Snapshot); !strings.HasSuffix(got, "serve, ready, ready, memory") {
		t.Errorf("the template holds %s", got)
	}
	if got := w.files(result.Base.Snapshot); !result.Memory || result.HostKey == "" || strings.Contains(got, "serve") {
		t.Errorf("what others go on from holds %s", got)
	}
	if server := w.command("serve"); server.user != "app" || server.cwd != "/app" || server.env["A"] != "1" {
		t.Errorf("the start command ran as %+v", server)
	}
	want := []string{"Running start command: serve", "[start] [stdout]: Hello, World!", "Waiting for template to be ready: ready", "Template is ready"}
	for i, line := range want {
		if !strings.Contains(w.logged(), line) || i == 3 && strings.Index(w.logged(), want[2]) > strings.Index(w.logged(), line) {
			t.Errorf("the log lacks %q, or has it too early:\n%s", line, w.logged())
		}
	}
}

func TestWhatRunsIsInherited(t *testing.T) {
	w := newWorld(t)
	base := w.mustBuild(Spec{StartCmd: "serve", ReadyCmd: "ready", Steps: []Step{{Type: "ENV", Args: []string{"A", "1"}}}}).Base
	more := []Step{{Type: "ENV", Args: []string{"A", "2"}}}
	result := w.mustBuild(Spec{From: "base", FromTemplate: &base, Steps: more})
	if got := w.files(result.Snapshot); !result.Memory || got != "base, serve, ready, memory" {
		t.Errorf("what is inherited gave %s", got)
	}
	if server := w.command("serve"); server.env["A"] != "1" || result.Defaults.EnvVars["A"] != "2" || result.Base.Start.StartCmd != "serve" {
		t.Errorf("the inherited command ran as %+v, with defaults %+v", server, result.Defaults)
	}
	result = w.mustBuild(Spec{From: "base", FromTemplate: &base, Steps: more, StartCmd: "other", ReadyCmd: "ready"})
	if got := w.files(result.Snapshot); got != "base, other, ready, memory" {
		t.Errorf("what is overridden gave %s", got)
	}
}

func TestAnImagesEntryPoint(t *testing.T) {
	w := newWorld(t)
	w.run = func(ctx context.Context, _ ran, _ func(string)) (string, error) { return untilOver(ctx) }
	var answers atomic.Int32
	w.ports = map[uint16]http.Handler{8080: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if answers.Add(1) < 3 || r.URL.Path != "/health" {
			rw.WriteHeader(http.StatusInternalServerError)
		}
	})}
	result := w.mustBuild(Spec{From: "served", EntryPoint: true, Probe: &Probe{8080, "/health"}})
	if !result.Memory || answers.Load() != 3 {
		t.Errorf("it was ready after %d answers", answers.Load())
	}
	if server := w.command("/serve now"); server.user != "www" || server.cwd != "/srv" || server.env["A"] != "1" {
		t.Errorf("the entry point ran as %+v", server)
	}
	if !strings.Contains(w.logged(), "Waiting for template to be ready: GET http://localhost:8080/health") {
		t.Error(w.logged())
	}
	w.image.Entrypoint, w.image.Cmd = nil, nil
	if failure := w.failure(Spec{From: "served", EntryPoint: true}); failure.Step != "finalize" || !strings.Contains(failure.Message, "neither an entry point nor a command") {
		t.Errorf("%+v", failure)
	}
	w.image.Cmd = []string{"run"}
	w.mustBuild(Spec{From: "served"})
	if strings.Contains(w.logged(), "start command") {
		t.Error("an entry point ran that nobody asked for")
	}
}

func TestAStartCommandWithoutAReadyCommandIsGivenSomeTime(t *testing.T) {
	w := newWorld(t)
	w.config.ReadyWait = 50 * time.Millisecond
	w.run = func(ctx context.Context, _ ran, _ func(string)) (string, error) { return untilOver(ctx) }
	if result := w.mustBuild(Spec{StartCmd: "serve"}); !result.Memory {
		t.Error("no memory is kept")
	}
	w = newWorld(t)
	w.run = func(context.Context, ran, func(string)) (string, error) { return "exit status 9", nil }
	w.failure(Spec{StartCmd: "serve"})
	if !strings.Contains(w.logged(), "Waiting for template to be ready: sleep 20") && !strings.Contains(w.logged(), "exit status 9") {
		t.Error(w.logged())
	}
}

func TestATemplateThatIsNotReadyFails(t *testing.T) {
	serve := func(ctx context.Context, c ran) (string, error) { return untilOver(ctx) }
	for _, c := range []struct {
		name    string
		spec    Spec
		run     func(context.Context, ran) (string, error)
		config  Config
		message string
	}{
		{"a start command that fails", Spec{StartCmd: "serve", ReadyCmd: "ready"}, func(_ context.Context, c ran) (string, error) {
			return "exit status 4", nil
		}, Config{}, "start command failed: error running start command: exit status 4"},
		{"never ready", Spec{StartCmd: "serve", ReadyCmd: "ready"}, func(ctx context.Context, c ran) (string, error) {
			if c.command == "ready" {
				return "exit status 1", nil
			}
			return untilOver(ctx)
		}, Config{ReadyTimeout: 100 * time.Millisecond}, "ready command failed: ready command timed out after 100ms: ready"},
		{"a ready command that hangs", Spec{StartCmd: "serve", ReadyCmd: "ready"}, serve, Config{ReadyTimeout: 100 * time.Millisecond}, "ready command timed out after 100ms"},
		{"nobody listens", Spec{StartCmd: "serve", Probe: &Probe{Port: 9}}, serve, Config{ReadyTimeout: 100 * time.Millisecond}, "timed out after 100ms: GET http://localhost:9/"},
		{"a probe of nothing", Spec{Probe: &Probe{Port: 9}}, serve, Config{}, "a probe needs something that answers it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.config = c.config
			w.run = func(ctx context.Context, r ran, _ func(string)) (string, error) { return c.run(ctx, r) }
			failure := w.failure(c.spec)
			if failure.Step != "finalize" || !strings.Contains(failure.Message, c.message) {
				t.Errorf("%+v, want %q", failure, c.message)
			}
			if left := w.unnamed(); len(left) > 0 {
				t.Errorf("snapshots are left: %v", left)
			}
		})
	}
}

func TestAUserOfTheStartCommandWhoIsNotThere(t *testing.T) {
	w := newWorld(t)
	w.snapshots["s1"] = []string{"files"}
	base := Base{Snapshot: "s1", Defaults: cube.Defaults{User: "root123"}}
	failure := w.failure(Spec{From: "t", FromTemplate: &base, StartCmd: "serve", ReadyCmd: "true"})
	if failure.Step != "finalize" || !strings.Contains(failure.Message, "start command failed: error running start command: command failed: unauthenticated: invalid username: 'root123'") {
		t.Errorf("%+v", failure)
	}
}

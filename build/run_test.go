package build

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"cube"
)

const someHash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestStepsAreDoneOneAfterTheOther(t *testing.T) {
	w := newWorld(t)
	w.uploads["team "+someHash] = "an archive"
	w.run = func(_ context.Context, _ ran, print func(string)) (string, error) {
		print("one\r\n  two  \n\nworking 1%\rworking 99%\nlast")
		return "exit status 0", nil
	}
	result := w.mustBuild(Spec{Template: "tpl", Scope: "team", From: "debian:12", Steps: []Step{
		{Type: "ENV", Args: []string{"B", "${A}-2", "C", "$B!"}},
		{Type: "RUN", Args: []string{"make"}},
		{Type: "WORKDIR", Args: []string{"/app"}},
		{Type: "WORKDIR", Args: []string{"$B"}},
		{Type: "USER", Args: []string{"app", "true"}},
		{Type: "COPY", Args: []string{"src/*.py", "lib/", "root", "0755"}, FilesHash: someHash},
		{Type: "run", Args: []string{"install", "root"}},
	}})
	want := `image, provision {}, make, workdir {"path":"/app","user":"user"}, workdir {"path":"/app/1-2","user":"user"}, ` +
		`user {"name":"app","sudo":true}, copy destination=lib%2F&mode=0755&owner=root&source=src&user=app&workdir=%2Fapp%2F1-2 of an archive, install`
	if got := w.files(result.Snapshot); got != want {
		t.Errorf("the template holds\n%s\nwant\n%s", got, want)
	}
	if d := result.Defaults; d.User != "app" || d.Workdir != "/app/1-2" || d.EnvVars["B"] != "1-2" || d.EnvVars["C"] != "1-2!" || d.EnvVars["PATH"] != "/image/bin" {
		t.Errorf("its defaults are %+v", d)
	}
	if result.Memory || result.HostKey != "" || result.Base.Snapshot != result.Snapshot || result.Base.Start != nil {
		t.Errorf("nothing is to run, and it is %+v", result)
	}
	if c := w.command("make"); c.user != "user" || c.cwd != "" || c.env["B"] != "1-2" || c.env["PATH"] != "/image/bin:"+systemPath {
		t.Errorf("the first command ran as %+v", c)
	}
	if c := w.command("install"); c.user != "root" || c.cwd != "/app/1-2" {
		t.Errorf("the second command ran as %+v", c)
	}
	for _, line := range []string{
		": Building template tpl/build", "base info: [base] FROM debian:12 [", "1 info: [builder 1/7] ENV B ${A}-2 C $B! [", "2 info: [builder 2/7] RUN make [",
		"2 info: [builder 2/7] [stdout]: one\n2 info: [builder 2/7] [stdout]: two\n2 info: [builder 2/7] [stdout]: working 99%\n2 info: [builder 2/7] [stdout]: last\n3 info",
		"finalize info: [finalize] Finalizing template build", "Build finished, took ",
	} {
		if !strings.Contains(w.logged(), line) {
			t.Errorf("the log lacks %q:\n%s", line, w.logged())
		}
	}
	if left := w.unnamed(result.Snapshot); len(left) > 0 {
		t.Errorf("snapshots are left: %v", left)
	}
}

func TestWhatWasBuiltBeforeIsNotBuiltAgain(t *testing.T) {
	w := newWorld(t)
	spec := func(change ...func(*Spec)) Spec {
		s := Spec{Scope: "team", From: "debian:12", Steps: []Step{
			{Type: "ENV", Args: []string{"X", "1"}}, {Type: "RUN", Args: []string{"first"}}, {Type: "RUN", Args: []string{"second"}}, {Type: "ENV", Args: []string{"Y", "$X"}},
		}}
		for _, c := range change {
			c(&s)
		}
		return s
	}
	first := w.mustBuild(spec())
	for _, c := range []struct {
		name   string
		change func(*Spec)
		before func()
		starts int
		cached string // what the log says was cached
	}{
		{"the same", func(*Spec) {}, nil, 0, "base 1 2 3 4"},
		{"another last step", func(s *Spec) { s.Steps[2].Args = []string{"third"} }, nil, 1, "base 1 2"},
		{"one step more", func(s *Spec) { s.Steps = append(s.Steps, Step{Type: "RUN", Args: []string{"fourth"}}) }, nil, 1, "base 1 2 3 4"},
		{"another environment", func(s *Spec) { s.Steps[0].Args[1] = "2" }, nil, 2, "base 1"},
		{"another scope", func(s *Spec) { s.Scope = "others" }, nil, 3, ""},
		{"a step that is forced", func(s *Spec) { s.Steps[1].Force = true }, nil, 2, "base 1"},
		{"an environment that is forced", func(s *Spec) { s.Steps[0].Force = true }, nil, 2, "base"},
		{"all is forced", func(s *Spec) { s.Force = true }, nil, 3, ""},
		{"all is forced, over what is no image", func(s *Spec) { s.From, s.Force = "", true }, nil, 2, "base"},
		{"another image under the name", func(*Spec) {}, func() { w.image.Digest = "sha256:2" }, 3, ""},
		{"a step between whose layer is gone", func(s *Spec) {}, func() {
			w.image.Digest = "sha256:1"
			steps, err := parseSteps(spec().Steps)
			if err != nil {
				t.Fatal(err)
			}
			base := baseKey("team", "image 1", "sha256:1", state{env: parseEnv(w.image.Env), user: defaultUser})
			delete(w.layers, chain(base, steps)[1])
		}, 0, "base 1 2 3 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.before != nil {
				c.before()
			}
			before := w.started
			result := w.mustBuild(spec(c.change))
			if got := w.started - before; got != c.starts {
				t.Errorf("%d sandboxes were started, want %d\n%s", got, c.starts, w.logged())
			}
			var cached []string
			for _, e := range w.entries {
				if strings.HasPrefix(e.Message, "CACHED [") {
					cached = append(cached, e.Step)
				}
			}
			if got := strings.Join(cached, " "); got != c.cached {
				t.Errorf("cached were %q, want %q\n%s", got, c.cached, w.logged())
			}
			if w.files(result.Snapshot) == "" {
				t.Error("the template has no files")
			}
		})
	}
	if got := w.mustBuild(spec()); got.Defaults.EnvVars["Y"] != "1" || got.Defaults.EnvVars["X"] != first.Defaults.EnvVars["X"] {
		t.Errorf("a cached build's environment is %v", got.Defaults.EnvVars)
	}
	if !strings.Contains(w.logged(), "CACHED [builder 1/4] ENV X 1 [") {
		t.Errorf("E2B's words are not in\n%s", w.logged())
	}
}

func TestTheBase(t *testing.T) {
	template := Base{Snapshot: "sother", Defaults: cube.Defaults{EnvVars: map[string]string{"A": "a"}, User: "app", Workdir: "/app"}}
	for _, c := range []struct {
		name  string
		spec  Spec
		image string // the setting
		want  string
		user  string
	}{
		{"E2B's own is the host-made one", Spec{From: "e2bdev/base"}, "", "base", "user"},
		{"with its tag", Spec{From: "e2bdev/base:latest"}, "", "base", "user"},
		{"none is E2B's own", Spec{}, "", "base", "user"},
		{"E2B's own is the image of the setting", Spec{From: "e2bdev/base"}, "debian:12", "image, provision {}", "user"},
		{"another image", Spec{From: "e2bdev/base2"}, "", "image, provision {}", "user"},
		{"a template", Spec{From: "other", FromTemplate: &template}, "", "other's", "app"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.config.BaseImage = c.image
			w.snapshots["sother"] = []string{"other's"}
			result := w.mustBuild(c.spec)
			if got := w.files(result.Snapshot); got != c.want || result.Defaults.User != c.user {
				t.Errorf("it holds %q and works as %q, want %q and %q", got, result.Defaults.User, c.want, c.user)
			}
		})
	}
	w := newWorld(t)
	w.snapshots["sother"] = []string{"other's"}
	spec := Spec{From: "other", FromTemplate: &template, Steps: []Step{{Type: "RUN", Args: []string{"more"}}, {Type: "WORKDIR", Args: []string{"sub"}}}}
	result := w.mustBuild(spec)
	if d := result.Defaults; d.User != "app" || d.Workdir != "/app/sub" || d.EnvVars["A"] != "a" || template.Defaults.Workdir != "/app" {
		t.Errorf("what is inherited is %+v", d)
	}
	other := template
	other.Defaults.EnvVars = map[string]string{"A": "b"}
	spec.FromTemplate = &other
	before := w.started
	w.mustBuild(spec)
	if w.started-before != 2 {
		t.Error("another template of the same files has another environment, and its steps were not built")
	}
}

func TestAFailedStepSaysWhichAndWhy(t *testing.T) {
	run := func(args ...string) Step { return Step{Type: "RUN", Args: args} }
	for _, c := range []struct {
		name    string
		steps   []Step
		run     func(context.Context, ran, func(string)) (string, error)
		config  Config
		step    string
		message string
	}{
		{"a user who is not there", []Step{run("whoami", "root123")}, nil, Config{}, "1", "failed to run command 'whoami': command failed: unauthenticated: invalid username: 'root123'"},
		{"a status", []Step{run("true"), run("false")}, func(_ context.Context, c ran, _ func(string)) (string, error) {
			if c.command == "false" {
				return "exit status 3", nil
			}
			return "exit status 0", nil
		}, Config{}, "2", "failed to run command 'false': exit status 3"},
		{"a signal", []Step{run("x")}, func(context.Context, ran, func(string)) (string, error) { return "signal: killed", nil }, Config{}, "1", "failed to run command 'x': signal: killed"},
		{"no end", []Step{run("x")}, func(ctx context.Context, _ ran, _ func(string)) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}, Config{StepTimeout: 100 * time.Millisecond}, "1", "failed to run command 'x': it did not end within 100ms"},
		{"endless output", []Step{run("yes")}, func(ctx context.Context, _ ran, print func(string)) (string, error) {
			for ctx.Err() == nil {
				print(strings.Repeat("y\n", 1000))
			}
			return "", ctx.Err()
		}, Config{MaxOutput: 3 << 20}, "1", "failed to run command 'yes': it printed more than 3 MiB"},
		{"files that were not uploaded", []Step{{Type: "COPY", Args: []string{"a", "b"}, FilesHash: someHash}}, nil, Config{}, "1", "were not uploaded"},
		{"an account that cannot be", []Step{{Type: "USER", Args: []string{"refuse"}}}, nil, Config{}, "1", "failed to create user: no, because"},
		{"a directory that cannot be", []Step{run("x"), {Type: "WORKDIR", Args: []string{"/refuse"}}}, nil, Config{}, "2", "failed to create workdir: no, because"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.run, w.config = c.run, c.config
			failure := w.failure(Spec{Steps: c.steps})
			if failure.Step != c.step || !strings.Contains(failure.Message, c.message) {
				t.Errorf("step %q: %q, want %q: %q", failure.Step, failure.Message, c.step, c.message)
			}
			if !strings.Contains(w.logged(), "error: Build failed: "+failure.Message) {
				t.Errorf("the log does not say it:\n%s", w.logged())
			}
			if left := w.unnamed(); len(left) > 0 {
				t.Errorf("snapshots are left: %v", left)
			}
			if size := len(w.logged()); size > 2*maxStepOutput {
				t.Errorf("the log has %d bytes", size)
			}
		})
	}
}

func TestASandboxThatDiesSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		exit cube.Exit
		want string
	}{
		"memory": {cube.Exit{OutOfMemory: true}, "needed more than its 64 MiB of memory"},
		"other":  {cube.Exit{Detail: "it crashed"}, "the sandbox of this step died"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.run = func(ctx context.Context, _ ran, _ func(string)) (string, error) {
				for _, id := range w.running() {
					w.kill(id, c.exit)
				}
				<-ctx.Done()
				return "", ctx.Err()
			}
			if failure := w.failure(Spec{Steps: []Step{{Type: "RUN", Args: []string{"x"}}}}); failure.Step != "1" || !strings.Contains(failure.Message, c.want) {
				t.Errorf("%+v, want %q", failure, c.want)
			}
		})
	}
}

func TestWhatIsNotTheAuthorsFaultIsNotShown(t *testing.T) {
	w := newWorld(t)
	w.onCheckpoint = func(cube.CheckpointRequest) error { return errors.New("a secret of the machine") }
	failure := w.failure(Spec{Steps: []Step{{Type: "RUN", Args: []string{"x"}}}})
	if failure.Step != "1" || failure.Message != messageInternal || strings.Contains(w.logged(), "secret") {
		t.Errorf("%+v\n%s", failure, w.logged())
	}
	w.onCheckpoint = func(cube.CheckpointRequest) error { return cube.Errorf(cube.Exhausted, "no room for it") }
	if failure := w.failure(Spec{Steps: []Step{{Type: "RUN", Args: []string{"x"}}}}); failure.Message != "no room for it" {
		t.Errorf("%+v", failure)
	}
	w.onCheckpoint, w.pullErr = nil, cube.Errorf(cube.NotFound, "there is no such image")
	if failure := w.failure(Spec{From: "nothing"}); failure != (cube.BuildFailure{Step: "base", Message: "there is no such image"}) {
		t.Errorf("%+v", failure)
	}
}

func TestACancelledBuildLeavesCachedLayersAlone(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.run = func(ctx context.Context, c ran, _ func(string)) (string, error) {
		if c.command == "second" {
			cancel()
			<-ctx.Done()
			return "", ctx.Err()
		}
		return "exit status 0", nil
	}
	_, err := w.build(ctx, Spec{Steps: []Step{{Type: "RUN", Args: []string{"first"}}, {Type: "RUN", Args: []string{"second"}}}})
	if e, ok := errors.AsType[*Error](err); !ok || e.Failure.Message != messageCancelled {
		t.Errorf("it ended with %v", err)
	}
	if left := w.unnamed(); len(left) > 0 || len(w.layers) != 1 {
		t.Errorf("snapshots are left: %v; layers: %v", left, w.layers)
	}
}

func TestBuildsDoNotDisturbEachOther(t *testing.T) {
	w := newWorld(t)
	w.uploads["team "+someHash] = strings.Repeat("x", 1000)
	cfg := Config{Engine: w, Cache: w, Uploads: w}
	runner := NewRunner(cfg)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			spec := Spec{Scope: "team", Steps: []Step{{Type: "RUN", Args: []string{"a"}}, {Type: "COPY", Args: []string{".", "/b"}, FilesHash: someHash, Force: true}}}
			if _, err := runner.Run(t.Context(), "b", spec, func(cube.LogEntry) {}); err != nil {
				// Another may have put its layer in the place of ours, which this cache
				// then discards at once.
				if !strings.Contains(err.Error(), "no snapshot") {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

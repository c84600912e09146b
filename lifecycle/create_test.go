package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube"
	"cube/engine/fake"
)

func TestCreateGivesASandboxThatRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		created, err := s.Create(t.Context(), CreateRequest{
			Template: "small",
			Timeout:  time.Minute,
			Secure:   true,
			Metadata: map[string]string{"owner": "ada"},
			EnvVars:  map[string]string{"LANG": "C"},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := created.Sandbox
		if len(got.AccessToken) < 20 || len(got.HostKey) < 20 || got.AccessToken == got.HostKey {
			t.Errorf("access token %q and host key %q, want two secrets", got.AccessToken, got.HostKey)
		}
		wantEqual(t, "sandbox", got, cube.Sandbox{
			ID:          got.ID,
			Template:    "tbase",
			Alias:       "base",
			State:       cube.Running,
			StartedAt:   now(),
			EndAt:       now().Add(time.Minute),
			Resources:   cube.Resources{CPUs: 2, MemoryMB: 512, DiskMB: 1024, Pids: 4096},
			Metadata:    map[string]string{"owner": "ada"},
			AccessToken: got.AccessToken,
			HostKey:     got.HostKey,
			EnvVars:     map[string]string{"LANG": "C"},
			Expiry:      cube.Expiry{Timeout: time.Minute},
		})
		read, err := s.Get(t.Context(), got.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "the sandbox that Get returns", read, got)
		request, _ := w.engine.Request(got.ID)
		wantEqual(t, "what the engine was asked for", request, cube.StartRequest{
			ID: got.ID, Snapshot: cube.BaseSnapshot, Resources: got.Resources, Internet: false,
		})
		settings, _ := w.engine.Settings(got.ID)
		wantEqual(t, "what the agent was told", settings, fake.Settings{
			EnvVars:     map[string]string{"LANG": "C"},
			AccessToken: got.AccessToken,
			HostKey:     got.HostKey,
			Timestamp:   time.Now().UTC(),
			DefaultUser: "user",
			SandboxID:   got.ID,
		})
	})
}

func TestASandboxThatIsNotSecureHasNoAccessToken(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		sandbox := mustCreate(t, w.server())
		settings, _ := w.engine.Settings(sandbox.ID)
		if sandbox.AccessToken != "" || settings.AccessToken != "" {
			t.Errorf("access tokens %q and %q, want none", sandbox.AccessToken, settings.AccessToken)
		}
		if !sandbox.Internet || settings.HostKey == "" {
			t.Errorf("internet %t, host key %q; want both", sandbox.Internet, settings.HostKey)
		}
	})
}

func TestTemplatesAreFoundByIdAliasAndDefaultTag(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		for name, want := range map[string]cube.TemplateID{
			"tbase": "tbase", "base": "tbase", "small": "tbase", "base:default": "tbase", "plain": "plain",
		} {
			sandbox := mustCreate(t, s, func(r *CreateRequest) { r.Template = name })
			if sandbox.Template != want {
				t.Errorf("template %q gives %q, want %q", name, sandbox.Template, want)
			}
		}
	})
}

func TestCreateRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*CreateRequest)
		kind   cube.Kind
		says   string
	}{
		{"an unknown template", func(r *CreateRequest) { r.Template = "other" }, cube.NotFound, `"other"`},
		{"an unknown tag", func(r *CreateRequest) { r.Template = "base:v2" }, cube.NotFound, `"base:v2"`},
		{"no template", func(r *CreateRequest) { r.Template = "" }, cube.NotFound, "id or alias"},
		{"a template's name without end", func(r *CreateRequest) { r.Template = strings.Repeat("x", 1<<20) }, cube.NotFound, "not found"},
		{"no timeout", func(r *CreateRequest) { r.Timeout = 0 }, cube.Invalid, "greater than 0"},
		{"a negative timeout", func(r *CreateRequest) { r.Timeout = -1 }, cube.Invalid, "greater than 0"},
		{"a timeout above the maximum", func(r *CreateRequest) { r.Timeout = 24*time.Hour + 1 }, cube.Invalid, "86400 seconds"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				req := simple()
				test.change(&req)
				_, err := w.server().Create(t.Context(), req)
				wantKind(t, err, test.kind)
				if !strings.Contains(err.Error(), test.says) || len(err.Error()) > 300 {
					t.Errorf("error = %.400q, want a short one with %q", err, test.says)
				}
				if rows := w.rows(); len(rows) > 0 {
					t.Errorf("%d rows were written", len(rows))
				}
			})
		})
	}
}

func TestAStartThatFailsLeavesNothing(t *testing.T) {
	secret := errors.New("secret cause")
	fail := func(err error) func(*world, *CreateRequest) {
		return func(w *world, _ *CreateRequest) {
			w.engine.OnStart = func(context.Context, cube.StartRequest) error { return err }
		}
	}
	for _, test := range []struct {
		name    string
		prepare func(*world, *CreateRequest)
		kind    cube.Kind
		says    string
	}{
		{"the engine fails", fail(secret), cube.Internal, "try again"},
		{"the machine is full", fail(cube.WrapError(cube.Exhausted, secret, "no address is free")), cube.Exhausted, "no address is free"},
		{"the limits are impossible", fail(cube.Errorf(cube.Invalid, "at most 2 processors")), cube.Invalid, "at most 2 processors"},
		{"the id is in use", fail(cube.Errorf(cube.Conflict, "in use")), cube.Internal, "try again"},
		{"the snapshot is missing", func(_ *world, r *CreateRequest) { r.Template = "broken" }, cube.NotFound, "no-such-snapshot"},
		{"the agent refuses", func(w *world, _ *CreateRequest) {
			w.engine.OnInit = func(cube.SandboxID) error { return secret }
		}, cube.Internal, "try again"},
		{"the sandbox dies at once", func(w *world, _ *CreateRequest) {
			w.engine.OnInit = func(id cube.SandboxID) error { w.engine.Die(id, cube.Exit{}); return nil }
		}, cube.Internal, "try again"},
		{"the sandbox is dead before it can be dialed", func(w *world, _ *CreateRequest) {
			w.config.Store, w.config.Engine = w.store, undialable{w.engine}
		}, cube.Internal, "try again"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				req := simple()
				test.prepare(w, &req)
				_, err := w.server().Create(t.Context(), req)
				wantKind(t, err, test.kind)
				e, ok := errors.AsType[*cube.Error](err)
				if !ok || !strings.Contains(e.Message, test.says) || strings.Contains(e.Message, "secret") {
					t.Errorf("message = %q, want %q and no cause", err, test.says)
				}
				synctest.Wait()
				w.wantNothingLeft()
				gone := w.rows(cube.Gone)
				if len(gone) != 1 {
					t.Fatalf("%d rows, want the one of the failure", len(gone))
				}
				w.wantEnd(gone[0].ID, cube.EndFailed)
			})
		})
	}
}

type undialable struct{ cube.Engine }

func (undialable) Dial(context.Context, cube.SandboxID, uint16) (net.Conn, error) {
	return nil, cube.Errorf(cube.NotFound, "it just died")
}

func TestAClientThatGoesAwayLeavesNothing(t *testing.T) {
	forever := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for _, test := range []struct {
		name    string
		prepare func(w *world, release chan struct{})
	}{
		{"while it waits for its turn", func(w *world, release chan struct{}) {
			w.config.StartSlots = 1
			w.engine.OnStart = func(context.Context, cube.StartRequest) error { <-release; return nil }
		}},
		{"while the engine starts", func(w *world, _ chan struct{}) {
			w.engine.OnStart = func(ctx context.Context, _ cube.StartRequest) error { return forever(ctx) }
		}},
		{"while the agent is initialised", func(w *world, release chan struct{}) {
			w.engine.OnInit = func(cube.SandboxID) error { <-release; return nil }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				release := make(chan struct{})
				test.prepare(w, release)
				s := w.server()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() {
						_, err := s.Create(ctx, simple())
						wantKind(t, err, cube.Unavailable)
					})
				}
				synctest.Wait()
				if len(w.machine()) == 0 {
					t.Error("nothing was begun")
				}
				cancel()
				synctest.Wait()
				close(release)
				wg.Wait()
				synctest.Wait()
				w.wantNothingLeft()
			})
		})
	}
}

func TestARequestThatHasEndedMakesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := w.server().Create(ctx, simple())
		wantKind(t, err, cube.Unavailable)
		if rows := w.rows(); len(rows) > 0 {
			t.Errorf("%d rows were written", len(rows))
		}
	})
}

func TestAStartThatHangsIsGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.engine.OnStart = func(ctx context.Context, _ cube.StartRequest) error { <-ctx.Done(); return ctx.Err() }
		begun := time.Now()
		_, err := w.server().Create(t.Context(), simple())
		wantKind(t, err, cube.Timeout)
		wantEqual(t, "time until it is given up", time.Since(begun), createTimeout)
		synctest.Wait()
		w.wantNothingLeft()
	})
}

func TestAnAgentThatDoesNotAnswerIsGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		release := make(chan struct{})
		w.engine.OnInit = func(cube.SandboxID) error { <-release; return nil }
		begun := time.Now()
		_, err := w.server().Create(t.Context(), simple())
		wantKind(t, err, cube.Internal)
		wantEqual(t, "time until it is given up", time.Since(begun), agentTimeout)
		close(release)
		synctest.Wait()
		w.wantNothingLeft()
	})
}

func TestStartsWaitTheirTurn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.StartSlots = 2
		w.engine.OnStart = func(context.Context, cube.StartRequest) error { time.Sleep(time.Second); return nil }
		s := w.server()
		var mu sync.Mutex
		queued := map[time.Duration]int{}
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				created, err := s.Create(t.Context(), simple())
				if err != nil {
					t.Error(err)
				}
				if left := time.Until(created.Sandbox.EndAt); left != simple().Timeout {
					t.Errorf("%v left, want the whole timeout in spite of the queue", left)
				}
				mu.Lock()
				defer mu.Unlock()
				queued[created.Timings.Queue]++
			})
		}
		wg.Wait()
		wantEqual(t, "times in the queue", queued, map[time.Duration]int{0: 2, time.Second: 2, 2 * time.Second: 2})
	})
}

func TestTheNumberOfSandboxesIsLimited(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.MaxSandboxes = 2
		s := w.server()
		mustCreate(t, s)
		second := mustCreate(t, s)
		_, err := s.Create(t.Context(), simple())
		wantKind(t, err, cube.Exhausted)

		s.Close()
		s = w.server()
		_, err = s.Create(t.Context(), simple())
		wantKind(t, err, cube.Exhausted)

		if err := s.Kill(t.Context(), second.ID, ""); err != nil {
			t.Fatal(err)
		}
		mustCreate(t, s)
	})
}

func TestAFailedCreateTakesNoPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.MaxSandboxes = 1
		s := w.server()
		for range 3 {
			_, err := s.Create(t.Context(), CreateRequest{Template: "broken", Timeout: time.Minute})
			wantKind(t, err, cube.NotFound)
			synctest.Wait()
		}
		mustCreate(t, s)
	})
}

func TestACreateThatIsNotWrittenTakesNoPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		store := &failingStore{Store: w.store}
		w.config.Store, w.config.Engine = store, w.engine
		w.config.MaxSandboxes = 1
		s := w.server()
		store.fail(errors.New("disk full"))
		_, err := s.Create(t.Context(), simple())
		wantKind(t, err, cube.Internal)
		w.wantNothingLeft()
		store.fail(nil)
		mustCreate(t, s)
	})
}

func TestSecretsAreNotLogged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var log bytes.Buffer
		w.config.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		s := w.server()
		sandbox := mustCreate(t, s, func(r *CreateRequest) {
			r.Secure = true
			r.EnvVars = map[string]string{"KEY": "hunter2"}
		})
		if err := s.Kill(t.Context(), sandbox.ID, "request"); err != nil {
			t.Fatal(err)
		}
		s.Close()
		text := log.String()
		for _, secret := range []string{sandbox.AccessToken, sandbox.HostKey, "hunter2"} {
			if strings.Contains(text, secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
		if !strings.Contains(text, string(sandbox.ID)) {
			t.Errorf("the log does not tell of the sandbox:\n%s", text)
		}
	})
}

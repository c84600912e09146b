package fake

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"cube"
	"cube/engine/enginetest"
)

func TestConformance(t *testing.T) {
	machine := &Engine{}
	enginetest.Run(t, enginetest.Suite{
		Open:      func(*testing.T) cube.Engine { return machine },
		Resources: resources,
		Leftovers: func(*testing.T) []string { return nil },
	})
}

var resources = cube.Resources{CPUs: 1, MemoryMB: 128, DiskMB: 64, Pids: 64}

func start(t *testing.T, e *Engine) cube.SandboxID {
	t.Helper()
	id := cube.NewSandboxID()
	req := cube.StartRequest{ID: id, Snapshot: cube.BaseSnapshot, Resources: resources}
	if _, err := e.Start(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	return id
}

func TestDeathBreaksConnectionsAndIsToldToWaiters(t *testing.T) {
	e := &Engine{}
	id := start(t, e)
	conn, err := e.Dial(t.Context(), id, cube.AgentPort)
	if err != nil {
		t.Fatal(err)
	}
	want := cube.Exit{OutOfMemory: true, Detail: "over its limit"}
	if !e.Die(id, want) || e.Die(id, cube.Exit{}) {
		t.Error("it did not die exactly once")
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("reading from a dead sandbox: %v, want the end", err)
	}
	if got, err := e.Wait(t.Context(), id); got != want || err != nil {
		t.Errorf("exit = %+v, %v; want %+v", got, err, want)
	}
	if list, _ := e.List(t.Context()); len(list) != 1 || list[0].Running {
		t.Errorf("list = %v, want the dead one until it is stopped", list)
	}
	if _, err := e.Dial(t.Context(), id, cube.AgentPort); cube.KindOf(err) != cube.NotFound {
		t.Errorf("dialing a dead sandbox: %v, want not found", err)
	}
}

func TestServersOfATestListenInEverySandbox(t *testing.T) {
	e := &Engine{Servers: map[uint16]http.Handler{8080: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})}}
	id := start(t, e)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return e.Dial(ctx, id, 8080)
	}}}
	resp, err := client.Get("http://sandbox/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != "hello" || err != nil {
		t.Errorf("answer = %q, %v", body, err)
	}
}

func TestWhatAHookReturnsFailsTheCall(t *testing.T) {
	failure := errors.New("on purpose")
	e := &Engine{OnStart: func(context.Context, cube.StartRequest) error { return failure }}
	_, err := e.Start(t.Context(), cube.StartRequest{ID: cube.NewSandboxID(), Snapshot: cube.BaseSnapshot, Resources: resources})
	if !errors.Is(err, failure) {
		t.Errorf("start: %v, want %v", err, failure)
	}
	if list, _ := e.List(t.Context()); len(list) != 0 {
		t.Errorf("a failed start left %v", list)
	}
	e = &Engine{OnStop: func(context.Context, cube.SandboxID) error { return failure }}
	if err := e.Stop(t.Context(), cube.NewSandboxID()); !errors.Is(err, failure) {
		t.Errorf("stop: %v, want %v", err, failure)
	}
}

package gateway

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cube"
	"cube/engine/fake"
)

// lateEngine is an engine on whose port 8000 a server begins to listen after
// some dials.
type lateEngine struct {
	*fake.Engine
	refusals, dials atomic.Int32
}

func (e *lateEngine) Dial(ctx context.Context, id cube.SandboxID, port uint16) (net.Conn, error) {
	if port == 8000 && e.dials.Add(1) <= e.refusals.Load() {
		return nil, cube.Errorf(cube.Unavailable, "nothing listens on the port yet")
	}
	return e.Engine.Dial(ctx, id, port)
}

func TestAServerThatIsAboutToListenIsWaitedForAMoment(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	engine := &lateEngine{Engine: &fake.Engine{Servers: map[uint16]http.Handler{8000: hello}}}
	w := newWorldOn(t, engine.Engine, engine)
	for _, row := range []struct {
		refusals int32
		want     int
		says     string
	}{
		{dialTries - 1, 200, "hello"},
		{dialTries, 502, messagePortClosed},
	} {
		engine.refusals.Store(row.refusals)
		engine.dials.Store(0)
		begun := time.Now()
		resp := w.get(t, w.create(t), "/") // in a new sandbox, so that there is no connection yet
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != row.want || !strings.Contains(string(body), row.says) {
			t.Errorf("after %d refusals: %s %s, %v", row.refusals, resp.Status, body, err)
		}
		if took := time.Since(begun); engine.dials.Load() != dialTries || took > time.Second {
			t.Errorf("after %d refusals: %d dials in %s, want %d within a second", row.refusals, engine.dials.Load(), took, dialTries)
		}
	}
}

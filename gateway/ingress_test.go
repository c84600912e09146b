package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cube"
	"cube/lifecycle"
)

func TestServersInsideSeeTheHostThatTheyExpect(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Host, r.Header.Get("X-Forwarded-Host"))
	})
	created, err := w.sandboxes.Create(t.Context(), lifecycle.CreateRequest{
		Template: "base", Timeout: time.Minute, Ingress: cube.Ingress{MaskRequestHost: "inner.example:${PORT}"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[cube.SandboxID]string{created.Sandbox.ID: "inner.example:8000 ", w.create(t): ""} {
		body, err := io.ReadAll(w.get(t, id, "/").Body)
		host, forwarded, _ := strings.Cut(string(body), " ")
		if err != nil || want != "" && (host+" " != want || forwarded == "" || forwarded == host) || want == "" && host != forwarded {
			t.Errorf("a server inside saw %q (%v), want %q", body, err, want)
		}
	}
}

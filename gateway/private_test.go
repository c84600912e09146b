package gateway

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"cube"
	"cube/lifecycle"
)

func TestASandboxWithoutPublicTrafficWantsItsToken(t *testing.T) {
	var inside http.Header
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) { inside = r.Header })
	created, err := w.sandboxes.Create(t.Context(), lifecycle.CreateRequest{Template: "base", Timeout: time.Minute, Secure: true, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	id, token := created.Sandbox.ID, created.Sandbox.TrafficToken
	other := w.create(t)

	for _, row := range []struct {
		name    string
		headers []string
		want    int
	}{
		{"none", nil, 403},
		{"an empty one", []string{trafficHeader, ""}, 403},
		{"another one", []string{trafficHeader, token + "x"}, 403},
		{"a part of it", []string{trafficHeader, token[:len(token)-1]}, 403},
		{"the agent's", []string{trafficHeader, created.Sandbox.AccessToken}, 403},
		{"its own in another header", []string{"X-Access-Token", token}, 403},
		{"its own", []string{trafficHeader, token}, 200},
	} {
		resp := w.get(t, id, "/", row.headers...)
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != row.want {
			t.Errorf("with %s: status %d, want %d", row.name, resp.StatusCode, row.want)
		}
		word := "is invalid"
		if !slices.Contains(row.headers, trafficHeader) {
			word = "is missing"
		}
		if row.want == 403 && !strings.Contains(string(body), word) {
			t.Errorf("with %s: %s, which does not say that it %s", row.name, body, word)
		}
	}
	if inside.Get(trafficHeader) != "" {
		t.Errorf("the server inside saw the token: %v", inside)
	}
	if resp := w.get(t, other, "/", trafficHeader, token); resp.StatusCode != 200 || inside.Get(trafficHeader) != "" {
		t.Errorf("an open sandbox: status %d, headers %v; want 200 and no token", resp.StatusCode, inside)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "8000-" + string(id) + ".cube.test"
	req.Header[trafficHeader] = []string{token, token}
	resp, err := w.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("with two tokens: status %d, want 403", resp.StatusCode)
	}
}

func TestOnlyASecureSandboxCanBePrivate(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) {})
	_, err := w.sandboxes.Create(t.Context(), lifecycle.CreateRequest{Template: "base", Timeout: time.Minute, Private: true})
	if cube.KindOf(err) != cube.Invalid {
		t.Errorf("error = %v, want an invalid request", err)
	}
}

package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"cube"
	"cube/engine/fake"
	"cube/lifecycle"
)

// link is what E2B's SDKs make.
func link(path, operation, user, token, expiration string) string {
	text := path + ":" + operation + ":" + user + ":" + token
	query := url.Values{"path": {path}, "username": {user}}
	if expiration != "" {
		text += ":" + expiration
		query.Set("signature_expiration", expiration)
	}
	sum := sha256.Sum256([]byte(text))
	query.Set("signature", "v1_"+base64.RawStdEncoding.EncodeToString(sum[:]))
	return "/files?" + query.Encode()
}

func TestASignedLinkFindsItsSandbox(t *testing.T) {
	engine := &fake.Engine{Servers: map[uint16]http.Handler{cube.AgentPort: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/init" {
			w.WriteHeader(http.StatusNoContent)
		}
	})}}
	w := newWorldOn(t, engine, engine)
	var tokens []string
	for range 3 {
		created, err := w.sandboxes.Create(t.Context(), lifecycle.CreateRequest{Template: "base", Timeout: time.Minute, Secure: true})
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, created.Sandbox.AccessToken)
		got, found := w.sandboxes.FindByAccessToken(func(token string) bool { return token == created.Sandbox.AccessToken })
		if !found || got != created.Sandbox.ID {
			t.Fatalf("the token of %s is that of %q", created.Sandbox.ID, got)
		}
	}
	w.create(t) // has no token, and is not found by none
	for name, row := range map[string]struct {
		method, link string
		want         int
	}{
		"reading":               {"GET", link("/a b", "read", "user", tokens[0], ""), 200},
		"reading, with an end":  {"GET", link("/a", "read", "", tokens[1], "1700000000"), 200}, // the agent's to judge
		"writing":               {"POST", link("/a", "write", "user", tokens[2], ""), 200},
		"writing what is read":  {"POST", link("/a", "read", "user", tokens[0], ""), 401},
		"another token":         {"GET", link("/a", "read", "user", "other", ""), 401},
		"no token":              {"GET", link("/a", "read", "user", "", ""), 401},
		"no signature's form":   {"GET", "/files?path=/a&signature=x", 401},
		"another path":          {"GET", link("/a", "read", "user", tokens[0], "") + "&path=/b", 200}, // the first counts
		"an end that is no end": {"GET", link("/a", "read", "", tokens[1], "17000000000000000000000000000000000000000"), 401},
	} {
		req, err := http.NewRequestWithContext(t.Context(), row.method, w.URL+row.link, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !w.gateway.Takes(req) {
			t.Errorf("%s: it is taken for the API's", name)
		}
		resp, err := w.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != row.want {
			t.Errorf("%s: %s %s, want %d", name, resp.Status, body, row.want)
		}
	}
}

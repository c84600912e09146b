package auth

import (
	"strings"
	"testing"
)

// The rows are those of the authentication contract's list of attacks.

func TestP1PathsThatTwoReadersReadDifferently(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, asking(o.URL))
	for _, path := range []string{
		"//sandboxes", "/sandboxes//x", "/templates/../health", "/templates/./x", "/templates/%2e%2e/health", "/templates/%2E/x",
		"/sandboxes/a%2fb", "/sandboxes/a%2Fb", "/sandboxes/a%5Cb", `/sandboxes/a\b`, "/sandboxes/%00", "/sandboxes/%0a", "/sandboxes/x;y=1",
		"/sandboxes/..;/health", "/sandboxes/%3bx", "/sandboxes/%23x", "/sandboxes/%3fx", "/sandboxes/%c3%a9", "/sandboxes/\xc3\xa9",
		"/sandboxes/", "/health/", "/sandboxes/%252e%252e/health", "/templates/a%2f%2e%2e%2fhealth", "/templates/a%2F", "/templates/%2Fa",
		"/%73andboxes", "/%74emplates/x", "/templates/%61liases/x", "/sandboxes/%2Da", "/templates/a%2fb/builds/c%2Fd/status", "/sandboxes/a%2Fb/timeout", "/templates%2Fx",
		"/sandboxes/%zz", "/" + strings.Repeat("a", 5000), "/sandboxes/x#frag", "/sandboxes/x\"y",
	} {
		resp := h.send(t, "GET "+path, "X-API-Key: key")
		if resp.StatusCode != 400 || resp.Header.Get("Location") != "" {
			t.Errorf("GET %q: %s, Location %q; want 400", path, resp.Status, resp.Header.Get("Location"))
		}
		if path == "/sandboxes/%zz" {
			continue // net/http refuses it before there is a request
		}
		if resp := h.send(t, "GET "+path); resp.StatusCode != 401 {
			t.Errorf("GET %q without a credential: %s, want 401", path, resp.Status)
		}
	}
	if q := o.questions(); len(q) != 0 {
		t.Errorf("the callback was asked about %q", q[0].Header.Get("X-Request-Path"))
	}
	open := newHouse(t, Config{})
	wantStatus(t, open.send(t, "GET /sandboxes//x"), 400)
}

func TestP1ATemplatesNameMayHoldASlash(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, asking(o.URL))
	for _, path := range []string{
		"/templates/team%2Fname:tag", "/templates/team%2Fname%3Atag", "/templates/aliases/team%2Fname", "/templates/team%2Fname/tags",
		"/templates/team%2Fname/builds/b/status", "/v2/templates/team%2Fname",
	} {
		if resp := h.send(t, "GET "+path, "X-API-Key: key"); resp.StatusCode == 400 {
			t.Errorf("%s is refused", path)
		}
		if got := o.last(t).Get("X-Request-Path"); got != path {
			t.Errorf("the callback judged %q, want %q", got, path)
		}
	}
}

func TestP2OnlyExactHealthIsFree(t *testing.T) {
	o := newOperator(t, status(401))
	h := newHouse(t, asking(o.URL))
	for line, want := range map[string]int{
		"GET /health": 200, "HEAD /health": 200,
		"GET /health?x": 401, "GET /health?": 401, "POST /health": 401, "GET /health/": 401, "GET /healthz": 401, "GET /Health": 401, "GET //health": 401,
		"GET /%68ealth": 401, "OPTIONS /health": 401, "OPTIONS *": 401, "GET http://cube/health": 401, "GET http://cube/sandboxes": 401,
		"TRACE /health": 405, "CONNECT cube:80": 405, "CONNECT /health": 405,
	} {
		resp := h.raw(t, line+" HTTP/1.1\r\nHost: cube\r\n\r\n")
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", line, resp.Status, want)
		}
	}
}

func TestH1TheCallbackSeesOneTrueValueEach(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, asking(o.URL))
	for _, header := range []string{
		"X-Request-Path: /health", "x-request-path: /health", "X_Request_Path: /health", "X.Request.Path: /health", "X-Request_Path: /health",
		"X-Request-Method: GET", "x_request_method: GET", "Connection: X-Request-Path, X-Request-Method, close",
	} {
		wantStatus(t, h.send(t, "DELETE /sandboxes/x", "X-API-Key: key", header, header), 200)
		q := o.last(t)
		if got := q.Values("X-Request-Path"); len(got) != 1 || got[0] != "/sandboxes/x" {
			t.Errorf("%s: the callback saw the paths %q", header, got)
		}
		if got := q.Values("X-Request-Method"); len(got) != 1 || got[0] != "DELETE" {
			t.Errorf("%s: the callback saw the methods %q", header, got)
		}
	}
}

func TestH2IdentityHeadersOfAClientGoNowhere(t *testing.T) {
	h := newHouse(t, Config{})
	for _, header := range []string{"X-Auth-Team: root", "x_auth_team: root", "X-User-Id: 1", "X.Team.Id: 1", "X-Auth-Subject: a"} {
		wantStatus(t, h.send(t, "GET /sandboxes", header), 200)
	}
	for _, r := range h.got {
		for name := range r.Header {
			if isTrustHeader(name) {
				t.Errorf("%s came through", name)
			}
		}
	}
}

func TestH3OverridesHaveNoInfluence(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, asking(o.URL))
	for _, header := range []string{
		"X-HTTP-Method-Override: GET", "X-Method-Override: GET", "X-Original-URL: /health", "X-Rewrite-URL: /health",
		"X-Forwarded-Uri: /health", "X-Forwarded-Method: GET", "X-Forwarded-Prefix: /x", "Forwarded: host=x",
	} {
		resp := h.send(t, "DELETE /sandboxes/x", "X-API-Key: key", header)
		q := o.last(t)
		if resp.Header.Get("X-Ran") != "DELETE /sandboxes/{id}" || q.Get("X-Request-Path") != "/sandboxes/x" || q.Get("X-Request-Method") != "DELETE" {
			t.Errorf("%s: ran %q, judged %s %s", header, resp.Header.Get("X-Ran"), q.Get("X-Request-Method"), q.Get("X-Request-Path"))
		}
	}
}

func TestC1CredentialsThatTwoReadersReadDifferently(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, asking(o.URL))
	for name, headers := range map[string][]string{
		"two tokens":          {"Authorization: Bearer a", "Authorization: Bearer b"},
		"a token twice":       {"Authorization: Bearer a", "Authorization: Bearer a"},
		"two keys":            {"X-API-Key: a", "X-API-Key: b"},
		"two keys and token":  {"Authorization: Bearer a", "X-API-Key: a", "X-API-Key: b"},
		"a tab before":        {"Authorization: Bearer\tabc"},
		"a tab, and a key":    {"Authorization: Bearer\tabc", "X-API-Key: key"},
		"a tab within":        {"Authorization: Bearer a\tb"},
		"a blank within":      {"Authorization: Bearer a b"},
		"a blank in the key":  {"X-API-Key: a b"},
		"a comma's list":      {"Authorization: Bearer a, Bearer b"},
		"a byte over ASCII":   {"Authorization: Bearer caf\xe9"},
		"a byte in the key":   {"X-API-Key: \xff"},
		"9 KiB of token":      {"Authorization: Bearer " + strings.Repeat("a", 9<<10)},
		"9 KiB of key":        {"X-API-Key: " + strings.Repeat("a", 9<<10)},
		"a token and bad key": {"Authorization: Basic eDp5", "X-API-Key: a b"},
	} {
		if resp := h.send(t, "GET /sandboxes", headers...); resp.StatusCode != 401 {
			t.Errorf("%s: %s, want 401", name, resp.Status)
		}
	}
	if n := len(o.questions()); n != 0 {
		t.Errorf("the callback was asked %d times", n)
	}
}

func TestC1CredentialsThatAreFine(t *testing.T) {
	o := newOperator(t, status(200))
	h := newHouse(t, asking(o.URL))
	for header, want := range map[string]string{
		"Authorization: bearer abc":                                   "Bearer abc",
		"Authorization: BEARER abc":                                   "Bearer abc",
		"authorization: Bearer  abc ":                                 "Bearer abc",
		"Authorization: Bearer " + strings.Repeat("a", maxCredential): "Bearer " + strings.Repeat("a", maxCredential),
	} {
		wantStatus(t, h.send(t, "GET /sandboxes", header), 200)
		if got := o.last(t).Get("Authorization"); got != want {
			t.Errorf("%.40s: the callback got %.40q", header, got)
		}
	}
	wantStatus(t, h.send(t, "GET /sandboxes", "Authorization: Basic dXNlcjo=", "X-API-Key: key"), 200)
	if q := o.last(t); q.Get("X-Api-Key") != "key" || q.Get("Authorization") != "" {
		t.Errorf("behind Basic the callback got %v", q)
	}
}

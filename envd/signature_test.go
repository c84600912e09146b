package envd

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const testToken = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0"

func TestSignaturesAreThoseOfTheSDKs(t *testing.T) {
	for _, v := range []struct{ path, operation, username, expiration, want string }{
		{"hello.txt", operationRead, "user", "", "v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E"},
		{"/tmp/x", operationWrite, "", "1700000000", "v1_LMxgKQ5zzoWHyMN4E1hQHTW5OWyBiQBicLlvWvEXEWU"},
	} {
		if got := sign(v.path, v.operation, v.username, testToken, v.expiration); got != v.want {
			t.Errorf("the signature of %q is %s, want %s", v.path, got, v.want)
		}
	}
}

func TestASignedLinkOpensOneFileForOneOperation(t *testing.T) {
	a := start(t, func(r *initRequest) { r.AccessToken = testToken })
	path := filepath.Join(t.TempDir(), "file")
	later := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	before := strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
	upload := func(query ...string) answer {
		return a.do(http.MethodPost, fileURL(path, query...), strings.NewReader("content"), http.Header{"Content-Type": {"application/octet-stream"}})
	}
	download := func(query ...string) answer { return a.get(fileURL(path, query...)) }

	if got := upload("signature", sign(path, operationWrite, "", testToken, "")); got.status != http.StatusOK {
		t.Fatalf("a signed upload is answered with %d %s", got.status, got.body)
	}
	for name, got := range map[string]answer{
		"without an end": download("signature", sign(path, operationRead, "", testToken, "")),
		"in time":        download("signature", sign(path, operationRead, "", testToken, later), "signature_expiration", later),
		"for a user":     download("signature", sign(path, operationRead, "root", testToken, ""), "username", "root"),
	} {
		if got.status != http.StatusOK || got.body != "content" {
			t.Errorf("%s: answered with %d %s", name, got.status, got.body)
		}
	}
	for name, c := range map[string]struct {
		got  answer
		want string
	}{
		"none":                  {download(), "missing signature query parameter"},
		"nonsense":              {download("signature", "v1_nonsense"), "invalid signature"},
		"for uploads":           {download("signature", sign(path, operationWrite, "", testToken, "")), "invalid signature"},
		"for downloads":         {upload("signature", sign(path, operationRead, "", testToken, "")), "invalid signature"},
		"of another path":       {download("signature", sign(path+"2", operationRead, "", testToken, "")), "invalid signature"},
		"of another user":       {download("signature", sign(path, operationRead, "", testToken, ""), "username", "root"), "invalid signature"},
		"of another token":      {download("signature", sign(path, operationRead, "", "other", "")), "invalid signature"},
		"its end taken away":    {download("signature", sign(path, operationRead, "", testToken, before)), "invalid signature"},
		"its end put off":       {download("signature", sign(path, operationRead, "", testToken, before), "signature_expiration", later), "invalid signature"},
		"too late":              {download("signature", sign(path, operationRead, "", testToken, before), "signature_expiration", before), "signature is already expired"},
		"an end that is no one": {download("signature", sign(path, operationRead, "", testToken, "soon"), "signature_expiration", "soon"), "invalid signature expiration"},
	} {
		if c.got.status != http.StatusUnauthorized || c.got.message(t) != c.want {
			t.Errorf("%s: answered with %d %q, want %q", name, c.got.status, c.got.body, c.want)
		}
	}
}

func TestTheTokenInAHeaderOpensFilesWithoutASignature(t *testing.T) {
	a := start(t, func(r *initRequest) { r.AccessToken = testToken })
	a.token = testToken
	if got := a.get(fileURL("/proc/version")); got.status != http.StatusOK {
		t.Errorf("the right token is answered with %d %s", got.status, got.body)
	}
	a.token = "wrong"
	got := a.get(fileURL("/proc/version", "signature", sign("/proc/version", operationRead, "", testToken, "")))
	if got.status != http.StatusUnauthorized || got.message(t) != "access token present in header but does not match" {
		t.Errorf("a wrong token is answered with %d %q", got.status, got.body)
	}
}

func FuzzNoSignatureIsAcceptedButTheRightOne(f *testing.F) {
	var a Agent
	a.settings.apply(initRequest{AccessToken: testToken})
	f.Add("/tmp/x", "root", "v1_LMxgKQ5zzoWHyMN4E1hQHTW5OWyBiQBicLlvWvEXEWU", "1700000000")
	f.Add("", "", "", "")
	f.Add("a:read:", "b:", "v1_", "99999999999999999999")
	f.Fuzz(func(t *testing.T, path, username, signature, expiration string) {
		query := url.Values{"path": {path}, "username": {username}, "signature": {signature}, "signature_expiration": {expiration}}
		r := httptest.NewRequest(http.MethodGet, "/files", nil)
		r.URL.RawQuery = query.Encode()
		right := sign(path, operationRead, username, testToken, expiration)
		if signature != right && a.authorizeFile(r, operationRead) == nil {
			t.Errorf("accepted %v", query)
		}
		query.Set("signature", right)
		r.URL.RawQuery = query.Encode()
		seconds, err := strconv.ParseInt(expiration, 10, 64)
		valid := expiration == "" || (err == nil && time.Unix(seconds, 0).After(time.Now()))
		if err := a.authorizeFile(r, operationRead); (err == nil) != valid {
			t.Errorf("the right signature for %v: %v", query, err)
		}
	})
}

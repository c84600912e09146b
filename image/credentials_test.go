package image

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"cube"
)

func TestCredentialsAreChecked(t *testing.T) {
	for _, c := range []struct {
		credentials Credentials
		words       string // "" for good ones
	}{
		{Credentials{Username: "a", Password: "b"}, ""},
		{Credentials{AWSAccessKeyID: "AKID", AWSSecretAccessKey: "s", AWSRegion: "eu-west-1"}, ""},
		{Credentials{AWSAccessKeyID: "AKID", AWSSecretAccessKey: "s", AWSRegion: "us-gov-east-1"}, ""},
		{Credentials{GCPServiceAccount: `{"type":"service_account"}`}, ""},
		{Credentials{}, "are empty"},
		{Credentials{Username: "a"}, "username and password"},
		{Credentials{Password: "a"}, "username and password"},
		{Credentials{Username: "a:b", Password: "c"}, "colon"},
		{Credentials{Username: "a", Password: "b", AWSRegion: "eu-west-1"}, "more than one kind"},
		{Credentials{AWSAccessKeyID: "AKID", AWSRegion: "eu-west-1"}, "awsSecretAccessKey"},
		{Credentials{AWSAccessKeyID: "AKID", AWSSecretAccessKey: "s", AWSRegion: "x.example/#-1"}, "awsRegion is written like"},
		{Credentials{AWSAccessKeyID: "AK\nID", AWSSecretAccessKey: "s", AWSRegion: "eu-west-1"}, "awsAccessKeyId"},
		{Credentials{GCPServiceAccount: "not JSON"}, "serviceAccountJson must be"},
	} {
		err := c.credentials.Validate()
		if c.words == "" {
			if err != nil {
				t.Errorf("%#v", err)
			}
			continue
		}
		wantFailure(t, err, cube.Invalid, c.words)
	}
	if text := fmt.Sprintf("%v %+v %#v", &Credentials{Password: "hidden"}, &Credentials{Password: "hidden"}, &Credentials{Password: "hidden"}); strings.Contains(text, "hidden") {
		t.Errorf("credentials print as %s", text)
	}
}

// wanting is a registry that asks for a name and a password.
func wanting(t *testing.T, user, password string) *testRegistry {
	t.Helper()
	r := newTestRegistry(t)
	r.push(t, "x", newImage(t, v1.Config{}, newLayer(t, "gzip", tarOf(t, "a", nil))))
	r.answer = func(w http.ResponseWriter, req *http.Request) bool {
		u, p, _ := req.BasicAuth()
		if u == user && p == password {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	return r
}

func TestBasicCredentials(t *testing.T) {
	r := wanting(t, "me", "secret")
	img, err := r.Pull(t.Context(), r.host+"/x", &Credentials{Username: "me", Password: "secret"})
	if err == nil {
		err = readLayers(img)
	}
	if err != nil {
		t.Error(err)
	}
	_, err = r.Pull(t.Context(), r.host+"/x", nil)
	wantFailure(t, err, cube.Forbidden, "access denied to '"+r.host+"/x': authentication required", "give fromImageRegistry")
	_, err = r.Pull(t.Context(), r.host+"/x", &Credentials{Username: "me", Password: "wrong"})
	wantFailure(t, err, cube.Forbidden, "check the username and password")
	if strings.Contains(err.Error(), "wrong") {
		t.Errorf("the error shows the password: %v", err)
	}
}

func TestGCPCredentials(t *testing.T) {
	const key = `{"type":"service_account","private_key":"x"}`
	r := wanting(t, "_json_key", key)
	if _, err := r.Pull(t.Context(), r.host+"/x", &Credentials{GCPServiceAccount: key}); err != nil {
		t.Error(err)
	}
	_, err := r.Pull(t.Context(), r.host+"/x", &Credentials{GCPServiceAccount: "{}"})
	wantFailure(t, err, cube.Forbidden, "check the serviceAccountJson")
}

// TestTokens is the way of Docker Hub and most others.
func TestTokens(t *testing.T) {
	r := newTestRegistry(t)
	r.push(t, "x", newImage(t, v1.Config{}, newLayer(t, "gzip", tarOf(t, "a", nil))))
	expired := false
	r.answer = func(w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path == "/token" {
			if u, p, _ := req.BasicAuth(); u != "me" || p != "secret" || req.URL.Query().Get("scope") != "repository:x:pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			fmt.Fprintf(w, `{"token":"good-%v"}`, expired)
			return true
		}
		if req.Header.Get("Authorization") == fmt.Sprintf("Bearer good-%v", expired) {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.host+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	img, err := r.Pull(t.Context(), r.host+"/x", &Credentials{Username: "me", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	expired = true // between the manifest and a layer
	if err := readLayers(img); err != nil {
		t.Error(err)
	}
	_, err = r.Pull(t.Context(), r.host+"/x", &Credentials{Username: "me", Password: "wrong"})
	wantFailure(t, err, cube.Forbidden, "access denied")
}

// TestCredentialsStayWithTheirRegistry: a layer may be somewhere else.
func TestCredentialsStayWithTheirRegistry(t *testing.T) {
	r := wanting(t, "me", "secret")
	asksFor := r.answer
	l := newLayer(t, "gzip", tarOf(t, "a", nil))
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if a := req.Header.Get("Authorization"); a != "" {
			t.Errorf("another host was told %s", a)
		}
		w.Write(l.sent)
	}))
	t.Cleanup(elsewhere.Close)
	r.answer = func(w http.ResponseWriter, req *http.Request) bool {
		if strings.Contains(req.URL.Path, sum(l.sent).String()) {
			http.Redirect(w, req, elsewhere.URL, http.StatusFound)
			return true
		}
		return asksFor(w, req)
	}
	both := r.client(t, RegistryConfig{Insecure: []string{r.host, strings.TrimPrefix(elsewhere.URL, "http://")}})
	img, err := both.Pull(t.Context(), r.host+"/x", &Credentials{Username: "me", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if err := readLayers(img); err != nil {
		t.Error(err)
	}
}

func TestECRCredentials(t *testing.T) {
	r := wanting(t, "AWS", "token")
	const registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	amazon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if req.Method != http.MethodPost || string(body) != "{}" || req.Header.Get("X-Amz-Target") != "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" {
			t.Errorf("Amazon was asked %s %s %q", req.Method, req.Header, body)
		}
		if !strings.HasPrefix(req.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKID/") {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"authorizationData": []any{map[string]any{
			"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:token")), "expiresAt": 1.7e9, "proxyEndpoint": "https://" + registry,
		}}})
	}))
	t.Cleanup(amazon.Close)
	client := r.client(t, RegistryConfig{Mirrors: map[string]string{registry: "http://" + r.host, "api.ecr.eu-west-1.amazonaws.com": amazon.URL}})
	good := &Credentials{AWSAccessKeyID: "AKID", AWSSecretAccessKey: "s", AWSRegion: "eu-west-1"}
	img, err := client.Pull(t.Context(), registry+"/x", good)
	if err == nil {
		err = readLayers(img)
	}
	if err != nil {
		t.Error(err)
	}
	_, err = client.Pull(t.Context(), registry+"/x", &Credentials{AWSAccessKeyID: "OTHER", AWSSecretAccessKey: "s", AWSRegion: "eu-west-1"})
	wantFailure(t, err, cube.Forbidden, "AWS gives no token", "ecr:GetAuthorizationToken")
	_, err = client.Pull(t.Context(), "ghcr.io/x", good)
	wantFailure(t, err, cube.Invalid, "ACCOUNT.dkr.ecr.REGION.amazonaws.com")
}

// TestSignature is Amazon's own examples: "get-vanilla" of its test suite, and
// the one of its documentation.
func TestSignature(t *testing.T) {
	key := awsKey{id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	at := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	for _, c := range []struct{ url, contentType, service, want string }{
		{"https://example.amazonaws.com/", "", "service", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", "application/x-www-form-urlencoded; charset=utf-8", "iam", "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"},
	} {
		req := httptest.NewRequest(http.MethodGet, c.url, nil)
		if c.contentType != "" {
			req.Header.Set("Content-Type", c.contentType)
		}
		sign(req, nil, key, "us-east-1", c.service, at)
		if got := req.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+c.want) {
			t.Errorf("%s is signed %s; want %s", c.url, got, c.want)
		}
	}
}

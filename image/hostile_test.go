package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"cube"
)

// TestPullOfWhatIsNoImage is what registries have that cannot be used here.
func TestPullOfWhatIsNoImage(t *testing.T) {
	r := newTestRegistry(t)
	file := newLayer(t, "gzip", tarOf(t, "a", nil))
	good := newImage(t, v1.Config{}, file)
	digest := func(b string) string { return sum([]byte(b)).String() }
	manifest := func(config, layers string) raw {
		return raw{fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, types.OCIManifestSchema1, config, layers), types.OCIManifestSchema1}
	}
	config := func(size int64) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, types.OCIConfigJSON, digest("c"), size)
	}
	blob := func(size int64) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, types.OCILayer, digest("l"), size)
	}

	for as, what := range map[string]raw{
		"json":     {`{"schemaVersion":2,`, types.OCIManifestSchema1},
		"text":     {`hello`, types.OCIManifestSchema1},
		"old":      {`{"schemaVersion":1,"fsLayers":[]}`, types.DockerManifestSchema1},
		"chart":    manifest(`{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"`+digest("c")+`","size":1}`, ""),
		"nolayers": manifest(config(1<<40), ""),
		"many":     manifest(config(1), strings.TrimSuffix(strings.Repeat(blob(1)+",", 128), ",")),
		"big":      manifest(config(1), blob(10<<30)+","+blob(10<<30)),
		"overflow": manifest(config(1), blob(9223372036854775807)+","+blob(9223372036854775807)),
		"negative": manifest(config(1), blob(-1)),
		"missing":  manifest(config(1), blob(1)),
		"baddig":   manifest(strings.Replace(config(1), "sha256:", "sha256:../", 1), blob(1)),
	} {
		r.push(t, "bad:"+as, what)
	}
	r.push(t, "bad:windows", imageFor(t, v1.Platform{OS: "windows", Architecture: "amd64"}, v1.Config{}, file))
	others := index(entry(good, "linux", "s390x", ""), entry(good, "linux", "arm", "v7"), entry(good, "unknown", "unknown", ""))
	r.push(t, "bad:others", others)
	r.push(t, "bad:empty", index())
	deep := index(entry(good, "linux", runtime.GOARCH, ""))
	for range 5 {
		deep = index(entry(deep, "linux", runtime.GOARCH, ""))
	}
	r.push(t, "bad:deep", deep)
	r.push(t, "bad:env", newImage(t, v1.Config{Env: []string{"A=\x00"}}, file))
	r.push(t, "bad:bigenv", newImage(t, v1.Config{Env: []string{"A=" + strings.Repeat("x", 300<<10)}}, file))
	r.push(t, "bad:user", newImage(t, v1.Config{User: "root\nroot:x:0"}, file))
	r.push(t, "bad:workdir", newImage(t, v1.Config{WorkingDir: "/" + strings.Repeat("x", 5000)}, file))
	r.push(t, "bad:cmd", newImage(t, v1.Config{Cmd: []string{strings.Repeat("x", 300<<10)}}, file))
	r.push(t, "bad:port", newImage(t, v1.Config{ExposedPorts: map[string]struct{}{"99999/tcp": {}}}, file))
	r.push(t, "bad:ports", newImage(t, v1.Config{ExposedPorts: map[string]struct{}{"1-65535": {}}}, file))
	r.push(t, "bad:scratch", newImage(t, v1.Config{}))

	for _, c := range []struct {
		tag   string
		kind  cube.Kind
		words string
	}{
		{"json", cube.Invalid, "no valid JSON"},
		{"text", cube.Invalid, "no valid JSON"},
		{"old", cube.Invalid, "push it again with a newer docker"},
		{"chart", cube.Invalid, "no container image but \"application/vnd.cncf.helm"},
		{"nolayers", cube.Invalid, "its configuration has 1099511627776 bytes"},
		{"many", cube.Invalid, "it has 128 layers: 127 are possible"},
		{"big", cube.TooLarge, "reduce your Docker image size"},
		{"overflow", cube.TooLarge, "reduce your Docker image size"},
		{"negative", cube.Invalid, "layer 0 has -1 bytes"},
		{"missing", cube.NotFound, "has lost one of its layers"},
		{"baddig", cube.Invalid, "no valid JSON"},
		{"windows", cube.Invalid, "only for windows/amd64"},
		{"others", cube.Invalid, "only for linux/s390x, linux/arm/v7"},
		{"empty", cube.Invalid, "an index without images"},
		{"deep", cube.Invalid, "indexes in indexes"},
		{"env", cube.Invalid, "ENV holds a zero byte"},
		{"bigenv", cube.TooLarge, "ENV is longer"},
		{"user", cube.Invalid, "USER is no name"},
		{"workdir", cube.Invalid, "WORKDIR is no path"},
		{"cmd", cube.TooLarge, "ENTRYPOINT and CMD are longer"},
		{"port", cube.Invalid, `EXPOSE "99999/tcp" is no port`},
		{"ports", cube.TooLarge, "more than 1024 ports"},
		{"scratch", cube.Invalid, "it has 0 layers"},
		{"none", cube.NotFound, "not found: the image or tag does not exist in the registry"},
	} {
		t.Run(c.tag, func(t *testing.T) {
			_, err := r.Pull(t.Context(), r.host+"/bad:"+c.tag, nil)
			wantFailure(t, err, c.kind, c.words, "/bad:"+c.tag+"'")
		})
	}
	_, err := r.Pull(t.Context(), r.host+"/nobody", nil)
	wantFailure(t, err, cube.NotFound, "repository '"+r.host+"/nobody' not found")
	_, err = r.Pull(t.Context(), r.host+"/bad@"+digest("no"), nil)
	wantFailure(t, err, cube.NotFound, "not found")
}

// TestPullFromLyingRegistry is registries that do not send what they should.
func TestPullFromLyingRegistry(t *testing.T) {
	plain := tarOf(t, "a", bytes.Repeat([]byte("0123456789"), 30<<10))
	sent := newLayer(t, "gzip", plain)
	img := newImage(t, v1.Config{}, sent)
	bomb := newLayer(t, "gzip", make([]byte, 8<<20))
	zbomb := newLayer(t, "zstd", make([]byte, 8<<20))
	noGzip := layer{plain: plain, sent: append([]byte{0x1f, 0x8b}, plain...)}
	noZstd := layer{plain: plain, sent: append([]byte{0x28, 0xb5, 0x2f, 0xfd}, plain...)}
	cut := layer{plain: plain, sent: sent.sent[:len(sent.sent)-20]}
	blobOf := func(l layer) string { return "/blobs/" + sum(l.sent).String() }
	write := func(b []byte) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.Write(b) }
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name   string
		image  v1.Image
		tag    string // or digest
		at     string // the path that is answered differently
		answer func(http.ResponseWriter, *http.Request)
		kind   cube.Kind
		words  string
	}{
		{"other bytes", img, "", blobOf(sent), write(bytes.Repeat([]byte("x"), len(sent.sent))), cube.Invalid, "damaged"},
		{"fewer bytes", img, "", blobOf(sent), write(sent.sent[:100]), cube.Invalid, "damaged"},
		{"more bytes", img, "", blobOf(sent), write(append(bytes.Clone(sent.sent), 1)), cube.Invalid, "sends more than it has announced"},
		{"more bytes, unannounced", img, "", blobOf(sent), func(w http.ResponseWriter, _ *http.Request) {
			w.Write(sent.sent)
			w.(http.Flusher).Flush()
			for range 100 {
				w.Write(make([]byte, 64<<10))
			}
		}, cube.Invalid, "sends more than it has announced"},
		{"manifest without end", img, "", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			for range 1600 { // 100 MiB
				if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
					return
				}
			}
		}, cube.Invalid, "sends more than it has announced"},
		{"another manifest", img, "@" + digest.String(), "/manifests/", write([]byte(`{}`)), cube.Invalid, "another manifest than the one that is asked for"},
		{"error without end", img, "", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			for range 100 {
				w.Write(make([]byte, 64<<10))
			}
		}, cube.Unavailable, "registry returned status code 418"},
		{"redirects", img, "", "/manifests/", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}, cube.Unavailable, "unable to retrieve image from registry"},
		{"gzip bomb", newImage(t, v1.Config{}, bomb), "", "none", nil, cube.TooLarge, "unpacks to more than 1 MiB"},
		{"zstd bomb", newImage(t, v1.Config{}, zbomb), "", "none", nil, cube.TooLarge, "unpacks to more than 1 MiB"},
		{"no gzip", newImage(t, v1.Config{}, noGzip), "", "none", nil, cube.Invalid, "damaged"},
		{"no zstd", newImage(t, v1.Config{}, noZstd), "", "none", nil, cube.Invalid, "damaged"},
		{"cut off", newImage(t, v1.Config{}, cut), "", "none", nil, cube.Invalid, "damaged"},
		{"forbidden", img, "", "/v2/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, cube.Forbidden, "give fromImageRegistry with its username and password"},
		{"down", img, "", "/v2/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, cube.Unavailable, "registry returned status code 502"},
		{"busy", img, "", "/v2/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, cube.Exhausted, "asked too often"},
		{"401 for ever", img, "", "/v2/", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/token") {
				io.WriteString(w, `{"token":"x"}`)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/v2/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, cube.Forbidden, "authentication required or insufficient permissions"},
		{"401 of the token service too", img, "", "/v2/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/v2/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, cube.Forbidden, "authentication required or insufficient permissions"},
		{"a token service without end", img, "", "/v2/", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/token") {
				for range 100 {
					w.Write(bytes.Repeat([]byte(" "), 64<<10))
				}
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/v2/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, cube.Invalid, "sends more than it has announced"},
		{"a layer that is asked for too often", img, "", blobOf(sent), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1000")
			w.WriteHeader(http.StatusTooManyRequests)
		}, cube.Exhausted, "asked too often"},
		{"hanging up", img, "", "/v2/", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, cube.Unavailable, "breaks off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTestRegistry(t)
			r.uncompressed = 1 << 20
			r.push(t, "lies:latest", c.image)
			r.answer = func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.Contains(req.URL.Path, c.at) {
					return false
				}
				c.answer(w, req)
				return true
			}
			got, err := r.Pull(t.Context(), r.host+"/lies"+c.tag, nil)
			if err == nil {
				err = readLayers(got)
			}
			wantFailure(t, err, c.kind, c.words)
		})
	}
}

func TestLiedManifestSize(t *testing.T) {
	r := newTestRegistry(t)
	img := newImage(t, v1.Config{}, newLayer(t, "gzip", tarOf(t, "a", nil)))
	r.push(t, "x:real", img)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r.push(t, "x:index", raw{fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":7,"platform":{"os":"linux","architecture":%q}}]}`,
		types.OCIManifestSchema1, digest, runtime.GOARCH), types.OCIImageIndex})
	_, err = r.Pull(t.Context(), r.host+"/x:index", nil)
	wantFailure(t, err, cube.Invalid, "announces a manifest of 7 bytes")
}

func TestPullRetries(t *testing.T) {
	r := newTestRegistry(t)
	r.push(t, "x", newImage(t, v1.Config{}, newLayer(t, "gzip", tarOf(t, "a", nil))))
	var refused int
	r.answer = func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/manifests/") {
			return false
		}
		refused++
		switch refused {
		case 1:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			panic(http.ErrAbortHandler) // hangs up
		default:
			return false
		}
		return true
	}
	if _, err := r.Pull(t.Context(), r.host+"/x", nil); err != nil {
		t.Fatal(err)
	}
	if len(r.waits) < 2 || r.waits[0] != 7*time.Second || r.waits[1] < firstWait {
		t.Errorf("it waited for %v", r.waits)
	}

	refused, r.waits = 0, nil
	r.answer = func(w http.ResponseWriter, req *http.Request) bool {
		refused++
		w.Header().Set("Retry-After", strconv.Itoa(3600))
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	_, err := r.Pull(t.Context(), r.host+"/x", &Credentials{Username: "a", Password: "b"})
	wantFailure(t, err, cube.Exhausted, "asked too often (429 Too Many Requests): try again later")
	if e, ok := errors.AsType[*cube.Error](err); !ok || e.RetryAfter != time.Hour || strings.Contains(e.Message, "username") {
		t.Errorf("the error is %#v", err)
	}
	if len(r.waits) != 0 {
		t.Errorf("it waited for %v; want a failure at once", r.waits)
	}
}

// TestBrokenTransfer is a layer whose connection breaks several times.
func TestBrokenTransfer(t *testing.T) {
	plain := tarOf(t, "a", bytes.Repeat([]byte("0123456789"), 30<<10))
	l := newLayer(t, "none", plain)
	for _, ranges := range []bool{true, false} {
		r := newTestRegistry(t)
		r.push(t, "x", newImage(t, v1.Config{}, l))
		r.answer = func(w http.ResponseWriter, req *http.Request) bool {
			if !strings.Contains(req.URL.Path, sum(l.sent).String()) {
				return false
			}
			from := 0
			if _, err := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-", &from); err == nil && ranges {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(plain)-1, len(plain)))
				w.Header().Set("Content-Length", strconv.Itoa(len(plain)-from))
				w.WriteHeader(http.StatusPartialContent)
			} else {
				from = 0
				w.Header().Set("Content-Length", strconv.Itoa(len(plain)))
			}
			end := min(from+100<<10, len(plain))
			w.Write(plain[from:end])
			if end < len(plain) {
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			return true
		}
		img, err := r.Pull(t.Context(), r.host+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err = readLayers(img); ranges {
			if err != nil {
				t.Errorf("with ranges: %v", err)
			}
			continue
		}
		wantFailure(t, err, cube.Unavailable, "too slowly or breaks off")
	}
}

func TestStalledTransfer(t *testing.T) {
	r := newTestRegistry(t)
	l := newLayer(t, "none", tarOf(t, "a", make([]byte, 1<<20)))
	r.push(t, "x", newImage(t, v1.Config{}, l))
	r.answer = func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, sum(l.sent).String()) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(l.sent)))
		for i := range l.sent { // a byte at a time, which never ends
			w.Write(l.sent[i : i+1])
			w.(http.Flusher).Flush()
			select {
			case <-req.Context().Done():
				return true
			case <-time.After(time.Millisecond):
			}
		}
		return true
	}
	img, err := r.Pull(t.Context(), r.host+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.transport.stall = 100 * time.Millisecond
	wantFailure(t, readLayers(img), cube.Unavailable, "too slowly or breaks off")
}

// TestPrivateAddresses: who names an image makes the server connect.
func TestPrivateAddresses(t *testing.T) {
	r := newTestRegistry(t)
	l := newLayer(t, "gzip", tarOf(t, "a", nil))
	r.push(t, "x", newImage(t, v1.Config{}, l))
	port := r.host[strings.LastIndex(r.host, ":"):]
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("a server inside was asked")
		w.Write(l.sent)
	}))
	t.Cleanup(inside.Close)

	strict := r.client(t, RegistryConfig{})
	for _, host := range []string{"127.0.0.1" + port, "localhost" + port, "[::1]" + port, "0.0.0.0" + port, "[::ffff:127.0.0.1]" + port, "10.0.0.1", "169.254.169.254", "192.168.0.1:5000"} {
		_, err := strict.Pull(t.Context(), host+"/x", nil)
		wantFailure(t, err, cube.Forbidden, "is not on the public internet", "--registry-allow")
	}
	for _, at := range []string{inside.URL + "/blob", "http://localhost" + strings.TrimPrefix(inside.URL, "http://127.0.0.1"), "https://localhost" + port + "/", "http://[::1]" + port + "/"} {
		r.answer = func(w http.ResponseWriter, req *http.Request) bool {
			if !strings.Contains(req.URL.Path, sum(l.sent).String()) {
				return false
			}
			http.Redirect(w, req, at, http.StatusTemporaryRedirect)
			return true
		}
		img, err := r.Pull(t.Context(), r.host+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := readLayers(img); err == nil {
			t.Errorf("a redirect to %s was followed", at)
		}
		r.answer = func(w http.ResponseWriter, req *http.Request) bool { // a token server
			if req.URL.Path != "/v2/" {
				return false
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+at+`",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if _, err := r.Pull(t.Context(), r.host+"/x", nil); err == nil {
			t.Errorf("a token was asked for at %s", at)
		}
	}
	r.answer = nil
	// An allowed registry is asked by HTTPS, which this one does not speak.
	_, err := r.client(t, RegistryConfig{Allow: []string{r.host}}).Pull(t.Context(), r.host+"/x", nil)
	wantFailure(t, err, cube.Unavailable, "speaks no HTTPS", "--registry-insecure "+r.host)
}

func TestBodyThatIsTruncated(t *testing.T) {
	b := &body{cancel: func() {}, current: io.NopCloser(strings.NewReader("0123456789")), rest: 4, truncate: true, stall: time.Hour}
	if got, err := io.ReadAll(b); err != nil || string(got) != "0123" {
		t.Errorf("it reads %q, %v", got, err)
	}
}

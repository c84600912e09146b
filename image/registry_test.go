package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"cube"
)

// testRegistry is a registry in this process, and what asks it.
type testRegistry struct {
	*Registries
	host string
	// answer may answer in the registry's place: true if it did.
	answer func(http.ResponseWriter, *http.Request) bool
	mu     sync.Mutex
	waits  []time.Duration // instead of waiting
}

func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r := &testRegistry{}
	own := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.answer == nil || !r.answer(w, req) {
			own.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	r.Registries = r.client(t, RegistryConfig{Insecure: []string{r.host}})
	return r
}

// client returns another that asks under other settings.
func (r *testRegistry) client(t *testing.T, c RegistryConfig) *Registries {
	t.Helper()
	client, err := NewRegistries(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	client.transport.wait = func(ctx context.Context, d time.Duration) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waits = append(r.waits, d)
		return ctx.Err()
	}
	return client
}

// push puts an image or an index into the registry, as it is.
func (r *testRegistry) push(t *testing.T, as string, what any) {
	t.Helper()
	ref, err := name.ParseReference(r.host+"/"+as, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	switch what := what.(type) {
	case v1.Image:
		err = remote.Write(ref, what)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, what)
	case raw:
		var req *http.Request
		if req, err = http.NewRequest(http.MethodPut, "http://"+r.host+"/v2/"+ref.Context().RepositoryStr()+"/manifests/"+ref.Identifier(), strings.NewReader(what.body)); err != nil {
			break
		}
		req.Header.Set("Content-Type", string(what.mediaType))
		var resp *http.Response
		if resp, err = http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// layer is one whose bytes are given, compressed as they are named.
type layer struct{ plain, sent []byte }

func newLayer(t testing.TB, compression string, plain []byte) layer {
	t.Helper()
	l := layer{plain: plain}
	var b bytes.Buffer
	switch compression {
	case "gzip":
		z := gzip.NewWriter(&b)
		z.Write(plain)
		z.Close()
	case "zstd":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		z.Write(plain)
		z.Close()
	default:
		b.Write(plain)
	}
	l.sent = b.Bytes()
	return l
}

func sum(b []byte) v1.Hash {
	s := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(s[:])}
}

func (l layer) Digest() (v1.Hash, error)           { return sum(l.sent), nil }
func (l layer) DiffID() (v1.Hash, error)           { return sum(l.plain), nil }
func (l layer) Compressed() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l.sent)), nil }
func (l layer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.plain)), nil
}
func (l layer) Size() (int64, error)                { return int64(len(l.sent)), nil }
func (l layer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }

// tarOf is a tar file of one file.
func tarOf(t testing.TB, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	w.Write(content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// newImage is an image for this machine.
func newImage(t testing.TB, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	return imageFor(t, v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, config, layers...)
}

func imageFor(t testing.TB, p v1.Platform, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Variant, file.Config = p.OS, p.Architecture, p.Variant, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

func index(adds ...mutate.IndexAddendum) v1.ImageIndex {
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), adds...)
}

func entry(a mutate.Appendable, os, arch, variant string) mutate.IndexAddendum {
	return mutate.IndexAddendum{Add: a, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch, Variant: variant}}}
}

// wantFailure checks the kind and the words of an error.
func wantFailure(t *testing.T, err error, kind cube.Kind, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	if cube.KindOf(err) != kind {
		t.Errorf("the error is %s: %v; want %s", cube.KindOf(err), err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error %q does not say %q", err, w)
		}
	}
}

// readLayers opens and reads all, and checks them against their DiffIDs.
func readLayers(img Image) error {
	for _, l := range img.Layers {
		if _, err := readLayer(l); err != nil {
			return err
		}
	}
	return nil
}

func readLayer(l cube.ImageLayer) ([]byte, error) {
	r, err := l.Open(context.Background())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	all, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if sum(all).String() != l.DiffID {
		return nil, cube.Errorf(cube.Internal, "the layer %s reads as %s", l.DiffID, sum(all))
	}
	return all, nil
}

func TestPull(t *testing.T) {
	r := newTestRegistry(t)
	layers := []v1.Layer{
		newLayer(t, "gzip", tarOf(t, "a", bytes.Repeat([]byte("a"), 300<<10))),
		newLayer(t, "zstd", tarOf(t, "b", bytes.Repeat([]byte("b"), 300<<10))),
		newLayer(t, "none", tarOf(t, "c", bytes.Repeat([]byte("c"), 300<<10))),
		newLayer(t, "none", tarOf(t, "c", bytes.Repeat([]byte("c"), 300<<10))), // twice the same
	}
	here := newImage(t, v1.Config{
		Env: []string{"PATH=/bin", "A=1", "broken", "=x", "A=2"}, User: "app:app", WorkingDir: "srv/./app",
		Entrypoint: []string{"/run"}, Cmd: []string{"-v"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "53/udp": {}, "90-92": {}, "80/TCP": {}},
	}, layers...)
	other := imageFor(t, v1.Platform{OS: "windows", Architecture: "amd64"}, v1.Config{}, newLayer(t, "gzip", tarOf(t, "x", nil)))
	several := index(entry(other, "windows", "amd64", ""), entry(other, "unknown", "unknown", ""), entry(here, "linux", runtime.GOARCH, ""))
	nested := index(mutate.IndexAddendum{Add: several})
	r.push(t, "team/app:one", here)
	r.push(t, "team/app:several", several)
	r.push(t, "team/app:nested", nested)
	digest, err := here.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, as := range []string{"team/app:one", "team/app:several", "team/app:nested", "team/app@" + digest.String(), "team/app:ignored@" + digest.String()} {
		t.Run(as, func(t *testing.T) {
			img, err := r.Pull(t.Context(), r.host+"/"+as, nil)
			if err != nil {
				t.Fatal(err)
			}
			if img.Digest != digest.String() || len(img.Layers) != len(layers) {
				t.Errorf("it has digest %s and %d layers; want %s and %d", img.Digest, len(img.Layers), digest, len(layers))
			}
			if want := []string{"PATH=/bin", "A=2"}; !slices.Equal(img.Env, want) {
				t.Errorf("the environment is %q; want %q", img.Env, want)
			}
			if img.User != "app:app" || img.Workdir != "/srv/app" || !slices.Equal(img.Entrypoint, []string{"/run"}) || !slices.Equal(img.Cmd, []string{"-v"}) {
				t.Errorf("it runs %q %q as %q in %q", img.Entrypoint, img.Cmd, img.User, img.Workdir)
			}
			if want := []uint16{80, 90, 91, 92, 8080}; !slices.Equal(img.Ports, want) {
				t.Errorf("it exposes %v; want %v", img.Ports, want)
			}
			if err := readLayers(img); err != nil {
				t.Error(err)
			}
			if err := readLayers(img); err != nil {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}

// TestLayersThatNobodyReadsToTheirEnd: closing one ends what is fetched of it.
func TestLayersThatNobodyReadsToTheirEnd(t *testing.T) {
	r := newTestRegistry(t)
	l := newLayer(t, "none", tarOf(t, "a", make([]byte, 16<<20)))
	r.push(t, "x", newImage(t, v1.Config{}, l))
	gone := make(chan struct{})
	r.answer = func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, sum(l.sent).String()) {
			return false
		}
		w.Write(l.sent[:1<<20])
		w.(http.Flusher).Flush()
		<-req.Context().Done() // and never more
		close(gone)
		return true
	}
	img, err := r.Pull(t.Context(), r.host+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := img.Layers[0].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(layer, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := layer.Close(); err != nil {
		t.Error(err)
	}
	<-gone
}

func TestPullFromMirror(t *testing.T) {
	r := newTestRegistry(t)
	r.push(t, "proxy/library/ubuntu:22.04", newImage(t, v1.Config{}, newLayer(t, "gzip", tarOf(t, "a", nil))))
	mirrored := r.client(t, RegistryConfig{Mirrors: map[string]string{"docker.io": "http://" + r.host + "/proxy/"}})
	for _, as := range []string{"ubuntu:22.04", "docker.io/library/ubuntu:22.04", "index.docker.io/library/ubuntu:22.04"} {
		img, err := mirrored.Pull(t.Context(), as, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := readLayers(img); err != nil {
			t.Error(err)
		}
	}
	_, err := mirrored.Pull(t.Context(), "e2bdev/base", nil)
	wantFailure(t, err, cube.NotFound, "'e2bdev/base' not found")
}

func TestCancelledPull(t *testing.T) {
	r := newTestRegistry(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.answer = func(w http.ResponseWriter, req *http.Request) bool {
		cancel()
		<-req.Context().Done()
		return true
	}
	if _, err := r.Pull(ctx, r.host+"/x", nil); err == nil || ctx.Err() == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("the error is %v", err)
	}
}

// raw is a manifest as somebody wrote it.
type raw struct {
	body      string
	mediaType types.MediaType
}

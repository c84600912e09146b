package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	registry "github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"cube"
)

// RegistryConfig is what the operator says of registries.
type RegistryConfig struct {
	// Mirrors are asked in place of a registry, by its host: the URL of another,
	// with the path below which the registry's repositories are.
	Mirrors map[string]string
	// Insecure are hosts that are asked by HTTP.
	Insecure []string
	// Allow are hosts that may be at addresses that are not on the internet. The
	// mirrors' and insecure ones are among them.
	Allow []string
}

// Registries pulls images. It connects where strangers tell it to, and so only
// to the internet, and to what the operator allows.
type Registries struct {
	hosts     *hostRules
	transport *transport
	// What an image may have: fields for tests to lower.
	compressed, uncompressed int64
}

// NewRegistries refuses settings that cannot be meant.
func NewRegistries(c RegistryConfig) (*Registries, error) {
	rules, err := newHostRules(c)
	if err != nil {
		return nil, err
	}
	return &Registries{hosts: rules, transport: newTransport(rules), compressed: maxCompressed, uncompressed: maxUncompressed}, nil
}

// Close ends connections that wait for a next question.
func (r *Registries) Close() { r.transport.closeIdle() }

// Pull asks a registry for an image, for this machine where there are several.
// Its layers are fetched when they are opened: until then the credentials are
// kept. It may be called concurrently. Errors are for the person who named it.
func (r *Registries) Pull(ctx context.Context, name string, c *Credentials) (Image, error) {
	ref, err := r.parse(name)
	if err != nil {
		return Image{}, err
	}
	p := &pull{Registries: r, ref: ref, credentials: c}
	img, err := p.image(ctx)
	if err != nil {
		return Image{}, r.explain(ref, c, err)
	}
	return img, nil
}

// pull is one image being pulled.
type pull struct {
	*Registries
	ref         reference
	credentials *Credentials
	puller      *remote.Puller
}

func (p *pull) image(ctx context.Context) (Image, error) {
	auth, err := p.authenticator(ctx, p.credentials, p.ref)
	if err != nil {
		return Image{}, err
	}
	p.puller, err = remote.NewPuller(
		remote.WithTransport(p.transport),
		remote.WithAuth(auth),
		// The transport does all of this.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithRetryStatusCodes(),
		remote.WithRetryPredicate(func(error) bool { return false }),
	)
	if err != nil {
		return Image{}, err
	}
	digest, m, err := p.manifest(ctx)
	if err != nil {
		return Image{}, err
	}
	if err := p.checkManifest(m); err != nil {
		return Image{}, err
	}
	raw, err := p.config(ctx, m.Config)
	if err != nil {
		return Image{}, err
	}
	img, platform, diffIDs, err := readConfig(raw)
	if e, ok := err.(*cube.Error); ok { //nolint:errorlint // ours, never wrapped
		return Image{}, cube.WrapError(e.Kind, e.Cause, "image '%s' cannot be used: %s", p.ref.asked, e.Message)
	}
	if !runsHere(platform) {
		return Image{}, wrongPlatform(p.ref.asked, platform.String())
	}
	if len(diffIDs) != len(m.Layers) {
		return Image{}, p.invalid("its manifest has %d layers and its configuration %d", len(m.Layers), len(diffIDs))
	}
	img.Digest = digest
	for i, d := range m.Layers {
		img.Layers = append(img.Layers, cube.ImageLayer{DiffID: diffIDs[i], Open: p.opener(d)})
	}
	return img, nil
}

// manifest finds the one for this machine, through indexes.
func (p *pull) manifest(ctx context.Context) (digest string, m v1.Manifest, err error) {
	at := p.ref.at
	announced := int64(-1)
	for range maxNesting + 1 {
		got, err := p.puller.Get(withBodyLimit(ctx, maxManifest), at)
		if err != nil {
			return "", v1.Manifest{}, p.refused(err)
		}
		if announced >= 0 && got.Size != announced {
			return "", v1.Manifest{}, p.invalid("its registry announces a manifest of %d bytes and sends %d", announced, got.Size)
		}
		var both struct {
			v1.Manifest
			Manifests []v1.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(got.Manifest, &both); err != nil {
			return "", v1.Manifest{}, p.invalid("its manifest is no valid JSON")
		}
		switch {
		case both.SchemaVersion == 1:
			return "", v1.Manifest{}, p.invalid("it has a manifest of version 1, from before 2017; push it again with a newer docker")
		case got.MediaType.IsIndex() || both.MediaType.IsIndex() || len(both.Manifests) > 0:
			next, err := choose(p.ref.asked, both.Manifests)
			if err != nil {
				return "", v1.Manifest{}, err
			}
			at, announced = p.ref.at.Context().Digest(next.Digest.String()), next.Size
		default:
			return got.Digest.String(), both.Manifest, nil
		}
	}
	return "", v1.Manifest{}, p.invalid("it has indexes in indexes, more than %d deep", maxNesting)
}

// refused tells a manifest with a wrong digest, for which the library has no
// type, from questions that were not answered.
func (p *pull) refused(err error) error {
	_, network := errors.AsType[*url.Error](err)
	_, body := errors.AsType[*transferError](err)
	_, answer := errors.AsType[*registry.Error](err)
	if network || body || answer {
		return err
	}
	if strings.Contains(err.Error(), "byte limit") { // the library's, of what a token service says
		return errors.Join(err, &tooLongError{})
	}
	return cube.WrapError(cube.Invalid, err, "failed to pull image '%s': its registry sends another manifest than the one that is asked for", p.ref.asked)
}

// checkManifest refuses sizes before anything of them is fetched.
func (p *pull) checkManifest(m v1.Manifest) error {
	switch t := m.Config.MediaType; {
	case t == types.DockerConfigJSON || t == types.OCIConfigJSON:
	default:
		return p.invalid("it is no container image but %.100q", string(t))
	}
	if m.Config.Size < 0 || m.Config.Size > maxConfig {
		return p.invalid("its configuration has %d bytes", m.Config.Size)
	}
	if len(m.Layers) > maxLayers {
		return p.invalid("it has %d layers: %d are possible", len(m.Layers), maxLayers)
	}
	var total int64
	for i, l := range m.Layers {
		if l.Size < 0 {
			return p.invalid("layer %d has %d bytes", i, l.Size)
		}
		if l.Size > p.compressed-total {
			return cube.Errorf(cube.TooLarge, "image '%s' is too large: its compressed layers have more than %d MiB. Please reduce your Docker image size (e.g., use a smaller base image, multi-stage builds, or remove unnecessary files)", p.ref.asked, p.compressed>>20)
		}
		total += l.Size
	}
	return nil
}

func (p *pull) config(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	blob, err := p.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	raw, err := io.ReadAll(blob)
	if err != nil {
		return nil, p.damaged(err)
	}
	return raw, nil
}

// blob fetches what a descriptor names: no more than its bytes, with its digest.
func (p *pull) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	digest, err := name.NewDigest(p.ref.at.Context().Name() + "@" + d.Digest.String())
	if err != nil {
		return nil, p.invalid("it names a layer %.100q", d.Digest.String())
	}
	digest.Repository = p.ref.at.Context() // with how it is asked
	layer, err := p.puller.Layer(withBodyLimit(ctx, d.Size), digest)
	if err != nil {
		return nil, err
	}
	return layer.Compressed()
}

// opener is a layer's Open.
func (p *pull) opener(d v1.Descriptor) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		ctx, cancel := context.WithCancel(ctx)
		blob, err := p.blob(ctx, d)
		if err != nil {
			cancel()
			return nil, p.explain(p.ref, p.credentials, err)
		}
		plain, err := uncompressed(blob, p.uncompressed)
		if err != nil {
			_ = blob.Close()
			cancel()
			return nil, p.explain(p.ref, p.credentials, p.damaged(err))
		}
		return &explained{ReadCloser: newAhead(plain, cancel), explain: func(err error) error {
			return p.explain(p.ref, p.credentials, p.damaged(err))
		}}, nil
	}
}

// explained is a layer whose errors are for a person.
type explained struct {
	io.ReadCloser
	explain func(error) error
}

// Read implements io.Reader.
func (e *explained) Read(b []byte) (int, error) {
	n, err := e.ReadCloser.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = e.explain(err)
	}
	return n, err
}

// damaged tells content that is wrong from a connection that is.
func (p *pull) damaged(err error) error {
	_, transfer := errors.AsType[*transferError](err)
	_, told := errors.AsType[*cube.Error](err)
	if transfer || told {
		return err
	}
	return cube.WrapError(cube.Invalid, err, "failed to pull image '%s': a part of it is damaged, or not what its manifest says; push it again", p.ref.asked)
}

// invalid is an image that nobody can use.
func (p *pull) invalid(format string, args ...any) error {
	return cube.Errorf(cube.Invalid, "image '%s' cannot be used: %s", p.ref.asked, fmt.Sprintf(format, args...))
}

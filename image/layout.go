package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"cube"
)

// archived is how an archive's image is called in sentences.
const archived = "archive"

// layout reads an OCI layout: blobs by their digests, and an index of them.
func (a *Archive) layout() (Image, error) {
	raw, err := a.read("index.json", maxManifest)
	if err != nil {
		return Image{}, err
	}
	digest := "index.json"
	for depth := 0; depth <= maxNesting; depth++ {
		var m struct {
			v1.Manifest
			Manifests []v1.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return Image{}, cube.WrapError(cube.Invalid, err, "the archive's %s is no valid JSON", digest)
		}
		if depth > 0 && len(m.Manifests) == 0 {
			return a.manifest(digest, m.Manifest)
		}
		if depth == 0 && severalImages(m.Manifests) {
			return Image{}, cube.Errorf(cube.Invalid, "the archive holds %d images: save one alone", len(m.Manifests))
		}
		next, err := choose(archived, m.Manifests)
		if err != nil {
			return Image{}, err
		}
		digest = next.Digest.String()
		if raw, err = a.blob(next.Digest, maxManifest); err != nil {
			return Image{}, err
		}
	}
	return Image{}, cube.Errorf(cube.Invalid, "the archive has indexes in indexes, more than %d deep", maxNesting)
}

// severalImages tells an index of different images from one of platforms.
func severalImages(manifests []v1.Descriptor) bool {
	unnamed := 0
	for _, m := range manifests {
		if m.Platform == nil {
			unnamed++
		}
	}
	return unnamed > 1
}

// manifest makes the image of a manifest in a layout.
func (a *Archive) manifest(digest string, m v1.Manifest) (Image, error) {
	raw, err := a.blob(m.Config.Digest, maxConfig)
	if err != nil {
		return Image{}, err
	}
	names := make([]string, len(m.Layers))
	for i, l := range m.Layers {
		names[i] = blobName(l.Digest)
	}
	return a.image(digest, raw, names)
}

// saved reads what `docker save` writes.
func (a *Archive) saved() (Image, error) {
	raw, err := a.read("manifest.json", maxManifest)
	if err != nil {
		return Image{}, err
	}
	var images []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(raw, &images); err != nil {
		return Image{}, cube.WrapError(cube.Invalid, err, "the archive's manifest.json is none of 'docker save'")
	}
	if len(images) != 1 {
		return Image{}, cube.Errorf(cube.Invalid, "the archive holds %d images: save one alone", len(images))
	}
	config, err := a.read(images[0].Config, maxConfig)
	if err != nil {
		return Image{}, err
	}
	sum := sha256.Sum256(config)
	return a.image("sha256:"+hex.EncodeToString(sum[:]), config, images[0].Layers)
}

// image puts a configuration and the layers' files together.
func (a *Archive) image(digest string, config []byte, layers []string) (Image, error) {
	img, platform, diffIDs, err := readConfig(config)
	if e, ok := err.(*cube.Error); ok { //nolint:errorlint // ours, never wrapped
		return Image{}, cube.WrapError(e.Kind, e.Cause, "the archive's image cannot be used: %s", e.Message)
	}
	if !runsHere(platform) {
		return Image{}, wrongPlatform(archived, platform.String())
	}
	if len(diffIDs) != len(layers) {
		return Image{}, cube.Errorf(cube.Invalid, "the archive's image cannot be used: its manifest has %d layers and its configuration %d", len(layers), len(diffIDs))
	}
	img.Digest = digest
	for i, name := range layers {
		layer, err := a.layer(name, diffIDs[i])
		if err != nil {
			return Image{}, err
		}
		img.Layers = append(img.Layers, layer)
	}
	return img, nil
}

func blobName(h v1.Hash) string { return fmt.Sprintf("blobs/%s/%s", h.Algorithm, h.Hex) }

// blob reads a small one, and checks that it is the one.
func (a *Archive) blob(h v1.Hash, limit int64) ([]byte, error) {
	raw, err := a.read(blobName(h), limit)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); h.Algorithm != "sha256" || hex.EncodeToString(sum[:]) != h.Hex {
		return nil, cube.Errorf(cube.Invalid, "the archive's %s is damaged: it has another digest", blobName(h))
	}
	return raw, nil
}

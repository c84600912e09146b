package image

import "cube"

// Image is a container image, wherever it came from: its layers, which are
// opened when somebody needs them, and what its author wrote down of how it
// runs. What it holds is hostile: checked for form and size, and not for sense.
type Image struct {
	// Digest is that of the manifest for this machine, "sha256:…": two images
	// with the same are the same.
	Digest string
	Layers []cube.ImageLayer // the lowest first
	// Env is NAME=value, each name once.
	Env     []string
	User    string // "" for root
	Workdir string // absolute; "" if the image says nothing
	// Entrypoint and Cmd, one after the other, are what runs.
	Entrypoint, Cmd []string
	Ports           []uint16 // TCP, ascending
}

// What an image may be at most. Real ones stay far below.
const (
	maxManifest  = 4 << 20 // registries take no larger ones
	maxConfig    = 4 << 20
	maxLayers    = 127       // Docker's own limit
	maxArguments = 256 << 10 // Env, and Entrypoint with Cmd
	maxEnv       = 1024
	maxPorts     = 1024
	maxNesting   = 3 // indexes in indexes

	// maxCompressed is what all layers of one image may have together, and
	// maxUncompressed what one may unpack to.
	maxCompressed   = 16 << 30
	maxUncompressed = 32 << 30
)

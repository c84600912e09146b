package image

import (
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"cube"
)

// thisPlatform is what images must be made for.
func thisPlatform() v1.Platform {
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// runsHere tells whether an image for p runs on this machine. An image that says
// nothing is taken at its word.
func runsHere(p v1.Platform) bool {
	want := thisPlatform()
	if p.OS != "" && p.OS != want.OS || p.Architecture != "" && p.Architecture != want.Architecture {
		return false
	}
	switch p.Variant {
	case "", "v1", "v8": // every amd64, every arm64
		return true
	}
	return false
}

// choose returns which of an index's manifests is for this machine. name is the
// image's, for the sentence that says what there is instead.
func choose(name string, manifests []v1.Descriptor) (v1.Descriptor, error) {
	var there []string
	unnamed := -1
	for i, m := range manifests {
		switch {
		case m.Platform == nil || m.Platform.OS == "" && m.Platform.Architecture == "":
			if unnamed < 0 {
				unnamed = i
			}
		case m.Platform.OS == "unknown": // what builders attach: no image
		case m.Platform.OS != "" && runsHere(*m.Platform):
			return m, nil
		default:
			if p := m.Platform.String(); len(there) < 20 && len(p) < 64 && !slices.Contains(there, p) {
				there = append(there, p)
			}
		}
	}
	if unnamed >= 0 {
		return manifests[unnamed], nil // its configuration will tell
	}
	if len(there) == 0 {
		return v1.Descriptor{}, cube.Errorf(cube.Invalid, "image '%s' is an index without images", name)
	}
	return v1.Descriptor{}, wrongPlatform(name, strings.Join(there, ", "))
}

func wrongPlatform(name, there string) error {
	return cube.Errorf(cube.Invalid, "image '%s' is not made for this machine (%s), only for %s: choose another image or tag, or build it for %[2]s", name, thisPlatform(), there)
}

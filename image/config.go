package image

import (
	"cmp"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"cube"
)

// readConfig makes an image of its configuration file, without its layers' ways
// to be opened: the DiffIDs are returned beside it.
func readConfig(raw []byte) (Image, v1.Platform, []string, error) {
	var file v1.ConfigFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return Image{}, v1.Platform{}, nil, cube.WrapError(cube.Invalid, err, "its configuration is no valid JSON")
	}
	c := file.Config
	img := Image{User: c.User, Entrypoint: c.Entrypoint, Cmd: c.Cmd}
	var err error
	if img.Env, err = environment(c.Env); err != nil {
		return Image{}, v1.Platform{}, nil, err
	}
	if img.Ports, err = exposedPorts(c.ExposedPorts); err != nil {
		return Image{}, v1.Platform{}, nil, err
	}
	switch {
	case len(c.User) > 256 || strings.ContainsAny(c.User, "\x00\r\n"):
		return Image{}, v1.Platform{}, nil, cube.Errorf(cube.Invalid, "its USER is no name of a user")
	case len(c.WorkingDir) > 4096 || strings.ContainsRune(c.WorkingDir, 0):
		return Image{}, v1.Platform{}, nil, cube.Errorf(cube.Invalid, "its WORKDIR is no path")
	case c.WorkingDir != "":
		img.Workdir = path.Clean("/" + c.WorkingDir)
	}
	total := 0
	for _, arg := range slices.Concat(c.Entrypoint, c.Cmd) {
		if strings.ContainsRune(arg, 0) {
			return Image{}, v1.Platform{}, nil, cube.Errorf(cube.Invalid, "its ENTRYPOINT or CMD holds a zero byte")
		}
		if total += len(arg) + 1; total > maxArguments {
			return Image{}, v1.Platform{}, nil, cube.Errorf(cube.TooLarge, "its ENTRYPOINT and CMD are longer than %d KiB", maxArguments>>10)
		}
	}
	diffIDs := make([]string, len(file.RootFS.DiffIDs))
	for i, h := range file.RootFS.DiffIDs {
		if h.Algorithm != "sha256" {
			return Image{}, v1.Platform{}, nil, cube.Errorf(cube.Invalid, "layer %d goes by %q: only sha256 is known", i, h.Algorithm)
		}
		diffIDs[i] = h.String()
	}
	if len(diffIDs) == 0 || len(diffIDs) > maxLayers {
		return Image{}, v1.Platform{}, nil, cube.Errorf(cube.Invalid, "it has %d layers: from 1 to %d are possible", len(diffIDs), maxLayers)
	}
	platform := v1.Platform{OS: file.OS, Architecture: file.Architecture, Variant: file.Variant}
	return img, platform, diffIDs, nil
}

// environment keeps the last value of each name, as every runtime does, and
// leaves out what is no variable at all.
func environment(lines []string) ([]string, error) {
	var env []string
	at := map[string]int{}
	total := 0
	for _, line := range lines {
		name, _, found := strings.Cut(line, "=")
		if !found || name == "" {
			continue
		}
		if strings.ContainsRune(line, 0) {
			return nil, cube.Errorf(cube.Invalid, "the variable %.100q of its ENV holds a zero byte", name)
		}
		if total += len(line) + 1; total > maxArguments || len(env) == maxEnv {
			return nil, cube.Errorf(cube.TooLarge, "its ENV is longer than %d KiB or %d variables", maxArguments>>10, maxEnv)
		}
		if i, again := at[name]; again {
			env[i] = line
			continue
		}
		at[name] = len(env)
		env = append(env, line)
	}
	return env, nil
}

// exposedPorts reads "80", "80/tcp" and "8000-8010/tcp"; UDP leads nowhere here.
func exposedPorts(exposed map[string]struct{}) ([]uint16, error) {
	var ports []uint16
	for spec := range exposed {
		numbers, protocol, _ := strings.Cut(spec, "/")
		if cmp.Or(strings.ToLower(protocol), "tcp") != "tcp" {
			continue
		}
		first, last, isRange := strings.Cut(numbers, "-")
		if !isRange {
			last = first
		}
		low, err1 := strconv.ParseUint(first, 10, 16)
		high, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || low == 0 || high < low {
			return nil, cube.Errorf(cube.Invalid, "its EXPOSE %.100q is no port", spec)
		}
		if len(ports)+int(high-low)+1 > maxPorts {
			return nil, cube.Errorf(cube.TooLarge, "it exposes more than %d ports", maxPorts)
		}
		for p := low; p <= high; p++ {
			ports = append(ports, uint16(p))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}

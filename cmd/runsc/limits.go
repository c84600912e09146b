package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// gVisor tells the code inside how many processors and how much memory there
// are from the control groups that it makes itself, and never fewer than two
// processors. Our control groups are made by the server, before any process of
// the sandbox exists, so the figures are in the sandbox's specification and
// boot's arguments are completed from there.

// The specification's annotations that hold the figures, in decimal.
const (
	annotationCPUs   = "cube.cpus"
	annotationMemory = "cube.memory" // bytes
)

const (
	// specFile is where gVisor looks for the specification in a bundle directory.
	specFile = "config.json"
	// maxSpec is more than any that we write, in bytes.
	maxSpec = 64 << 10
)

// withLimits returns args with the figures in them if they are those of boot's
// first run. Boot executes itself again with the arguments that it got. The
// specification is read through the descriptor that boot was given: by now the
// process may not open files any more.
func withLimits(args []string) []string {
	boot := slices.Index(args, "boot")
	memory := slices.Index(args, "--total-memory") + 1
	if boot < 0 || memory <= 0 || memory >= len(args) || slices.Contains(args, "--cpu-num") {
		return args
	}
	for _, arg := range args[boot:] {
		number, ok := strings.CutPrefix(arg, "--spec-fd=")
		if !ok {
			continue
		}
		spec, err := readSpec(number)
		if err != nil {
			break // boot says what is wrong with its specification better than we can
		}
		args = slices.Clone(args)
		args[memory] = spec.Annotations[annotationMemory]
		return slices.Insert(args, boot+1, "--cpu-num", spec.Annotations[annotationCPUs])
	}
	return args
}

// readSpec reads from a descriptor without moving it: boot reads from it too.
func readSpec(number string) (specs.Spec, error) {
	var spec specs.Spec
	fd, err := strconv.Atoi(number)
	if err != nil {
		return spec, err
	}
	data := make([]byte, maxSpec)
	n, err := unix.Pread(fd, data, 0)
	if err != nil {
		return spec, err
	}
	return spec, json.Unmarshal(data[:n], &spec)
}

func writeSpec(dir string, spec *specs.Spec) error {
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, specFile), data, 0o600)
}

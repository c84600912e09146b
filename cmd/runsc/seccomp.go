package main

import (
	"embed"
	"encoding/json"
	"runtime"
	"runtime/debug"
	_ "unsafe" // for go:linkname

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/runsc/boot/filter"
)

//go:generate go run ./genseccomp seccomp_amd64.json

// compiled holds the filter by architecture, where it was generated.
//
//go:embed seccomp_*.json
var compiled embed.FS

// precompiledPrograms is where gVisor looks for compiled filters. Its Go module
// comes without any and without a way to add one.
//
//go:linkname precompiledPrograms gvisor.dev/gvisor/runsc/boot/filter.precompiledPrograms
var precompiledPrograms map[string]precompiledseccomp.Program

// useCompiledFilter lets gVisor find the filter. If there is none for this
// architecture, or it was made from another version of gVisor, gVisor compiles
// its own, as it would without us.
func useCompiledFilter() {
	data, err := compiled.ReadFile("seccomp_" + runtime.GOARCH + ".json")
	if err != nil {
		return
	}
	var f struct {
		GVisor  string
		Program precompiledseccomp.Program
	}
	if json.Unmarshal(data, &f) != nil || f.GVisor != gvisorVersion() {
		return
	}
	filter.ListPrecompiled() // makes the map, once; later it would replace ours
	precompiledPrograms[f.Program.Name] = f.Program
}

func gvisorVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, module := range info.Deps {
		if module.Path == "gvisor.dev/gvisor" {
			return module.Version
		}
	}
	return ""
}

// Command genseccomp compiles the system call filter of a sandbox's kernel
// beforehand, for cmd/runsc to carry: compiling it at each start costs 10 ms.
// gVisor does the same in its own releases, and not in its Go module. It takes
// half a minute, because gVisor compiles the filters of all its variants.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	_ "gvisor.dev/gvisor/pkg/sentry/platform/platforms" // the platforms to compile for
	"gvisor.dev/gvisor/runsc/boot/filter/config"
)

// variant is how gVisor names the one filter that we use: systrap, gVisor's own
// network, files through the gofer, no accelerators.
const variant = `Platform="systrap" HostNetwork=false HostNetworkRawSockets=false HostFilesystem=false ` +
	`ProfileEnable=false Instrumentation=false NVProxy=false NVProxyCaps= TPUProxy=false RDMAProxy=false ` +
	`CgoEnabled=false PluginNetwork=false`

// Filter is the file's form. It holds for one version of gVisor alone.
type Filter struct {
	GVisor  string
	Program precompiledseccomp.Program
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "genseccomp:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	programs, err := config.PrecompiledPrograms()
	if err != nil {
		return err
	}
	for _, program := range programs {
		if strings.HasSuffix(program.Name, variant) {
			data, err := json.Marshal(Filter{GVisor: gvisorVersion(), Program: program})
			if err != nil {
				return err
			}
			return os.WriteFile(path, append(data, '\n'), 0o644)
		}
	}
	return fmt.Errorf("gVisor compiles no variant %s", variant)
}

func gvisorVersion() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "gvisor.dev/gvisor" {
			return module.Version
		}
	}
	return ""
}

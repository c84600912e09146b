// Command runsc is gVisor's own main with the few commands that a sandbox
// needs, and two of ours that create and keep one. It is a binary of its own, so
// that a sandbox's processes do not carry the server. It must import nothing of
// the server but engine/gvisor/launch.
//
// It runs in these forms, told apart by the command:
//
//	launch      ours: started by the server for each sandbox, lives some 50 ms
//	checkpoint  ours: keeps a running sandbox's state, or lets it run on
//	boot        gVisor's: the sandbox's kernel (the sentry)
//	gofer       gVisor's: serves the root directory to the sentry
//	umount      gVisor's: detaches what boot no longer needs
package main

import (
	"os"
	"slices"

	"gvisor.dev/gvisor/runsc/cli"
	"gvisor.dev/gvisor/runsc/cmd"
	"gvisor.dev/gvisor/runsc/cmd/sentry/sentrycmd"
	"gvisor.dev/gvisor/runsc/cmd/util"

	_ "cube/cmd/runsc/early"
	"cube/engine/gvisor/launch"
)

func main() {
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case launch.Command:
			launchMain()
			return
		case launch.CheckpointCommand:
			checkpointMain()
			return
		}
	}
	os.Args = withLimits(os.Args)
	if slices.Contains(os.Args, "boot") {
		useCompiledFilter()
	}
	settle()
	cli.Run(nil, map[util.SubCommand]string{
		new(sentrycmd.Boot):   "",
		new(cmd.Gofer):        "",
		new(sentrycmd.Umount): "",
	}, nil)
}

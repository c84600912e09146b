package main

import (
	"errors"
	"os"
	"path/filepath"

	"gvisor.dev/gvisor/pkg/control/client"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"

	"cube/engine/gvisor/launch"
)

// listUpper has the kernel of a frozen sandbox write what is in the upper layer
// of its root as a tar file, whose files say where their contents are in the
// kernel's file store. This is the first half of what gVisor does to keep files;
// the other half, the contents, goes nowhere.
//
// gVisor's own tar of the upper layer reads each file into the kernel's memory as
// a whole: one that is larger than the sandbox's memory would end the sandbox.
func listUpper(dir string, tar *os.File) error {
	defer tar.Close()
	nowhere, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer nowhere.Close()
	conn, err := client.ConnectTo(filepath.Join(dir, launch.ControlSocket))
	if err != nil {
		return err
	}
	// The manifest, the tar file, where pages are, and pages.
	args := boot.FSSaveArgs{FilePayload: urpc.FilePayload{Files: []*os.File{nowhere, tar, nowhere, nowhere}}}
	return errors.Join(conn.Call(boot.ContMgrFSSave, &args, nil), conn.Close())
}

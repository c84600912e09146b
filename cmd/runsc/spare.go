package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"

	"cube/engine/gvisor/launch"
)

// beginSpare creates a container, says so, and waits to be told what it is to
// become. It serves that one sandbox: nothing runs in it before, and it is
// destroyed if nobody needs it.
func beginSpare(conf *config.Config, args container.Args, messages *json.Decoder, watchdog *time.Timer, made func(*container.Container) error) (*container.Container, error) {
	c, err := container.New(conf, args)
	if err != nil {
		return nil, fmt.Errorf("creating the container: %w", err)
	}
	if err := made(c); err != nil {
		return nil, errors.Join(err, c.Destroy())
	}
	watchdog.Stop()
	settle()
	cpuFeatures() // it remembers them

	var is launch.Begin
	if err := messages.Decode(&is); err != nil {
		// The server is gone, or needs this no more: it kills us then.
		_ = c.Destroy()
		os.Exit(1)
	}
	watchdog.Reset(is.Timeout)
	conf.RootDir, c.BundleDir = is.Dir, is.Dir
	c.Saver = container.StateFile{RootDir: is.Dir, ID: c.Saver.ID}
	c.Sandbox.ControlSocketPath = filepath.Join(is.Dir, launch.ControlSocket)
	var check check
	if is.Snapshot != nil {
		if err := check.begin(is.Snapshot); err != nil {
			return nil, errors.Join(err, c.Destroy())
		}
	}
	return c, goOn(conf, c, is.Snapshot, &check)
}

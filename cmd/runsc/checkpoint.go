package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/sentry/state/checkpointfiles"
	"gvisor.dev/gvisor/pkg/state/statefile"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/sandbox"

	"cube/engine/gvisor/launch"
)

// checkpointMain keeps the state of one sandbox as a snapshot, or lets a frozen
// one run on, and ends. It is a process of its own for the reason that
// launchMain is. It holds a lock on the sandbox's directory while it works, so
// that a server that comes after a crash can wait for it.
func checkpointMain() {
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	var result launch.CheckpointResult
	if err := checkpoint(&result); err != nil {
		// The sandbox's kernel adds the stacks of its goroutines.
		result.Error, _, _ = strings.Cut(err.Error(), ":\ngoroutine ")
		// Of an error in the sandbox's kernel only the text arrives here.
		result.Full = errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) ||
			strings.Contains(result.Error, unix.ENOSPC.Error()) || strings.Contains(result.Error, unix.EDQUOT.Error())
	}
	if err := json.NewEncoder(os.NewFile(launch.ResultFD, "result")).Encode(result); err != nil {
		os.Exit(1)
	}
}

func checkpoint(result *launch.CheckpointResult) error {
	var req launch.CheckpointRequest
	input := json.NewDecoder(os.Stdin)
	if err := input.Decode(&req); err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	watchdog := time.AfterFunc(req.Timeout, func() { os.Exit(1) })
	defer watchdog.Stop()

	dir, err := os.Open(req.Dir)
	if err != nil {
		return err
	}
	defer dir.Close() // and with it the lock
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("locking the sandbox's directory: %w", err)
	}
	id := container.FullID{SandboxID: launch.ContainerID, ContainerID: launch.ContainerID}
	c, err := container.Load(req.Dir, id, container.LoadOpts{Exact: true})
	if err != nil {
		return fmt.Errorf("finding the container: %w", err)
	}
	frozen := c.Status == container.Paused
	if req.Thaw {
		if !frozen {
			return nil
		}
		return c.Resume()
	}

	start := time.Now()
	if !frozen {
		if err := c.Pause(); err != nil {
			return err
		}
	}
	result.Freeze = time.Since(start)
	if req.Upper {
		// The server reads, and gives up by reading no more.
		start = time.Now()
		if err := listUpper(req.Dir, os.NewFile(launch.UpperFD, "upper")); err != nil {
			if !frozen {
				err = errors.Join(err, c.Resume())
			}
			return err
		}
		result.Save = time.Since(start)
		return nil
	}
	if err := keep(c, req, result, givenUp()); err != nil {
		err = errors.Join(err, remove(req.Tmp))
		if !frozen {
			err = errors.Join(err, c.Resume())
		}
		return err
	}
	return nil
}

// givenUp is closed when the server wants no snapshot any more, or is dead.
func givenUp() <-chan struct{} {
	done := make(chan struct{})
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	return done
}

// keep writes the snapshot of a sandbox in which nothing runs.
func keep(c *container.Container, req launch.CheckpointRequest, result *launch.CheckpointResult, givenUp <-chan struct{}) error {
	if err := os.Mkdir(req.Tmp, 0o700); err != nil {
		return err
	}
	start := time.Now()
	var names []string
	var err error
	if req.Keep.Memory {
		names = []string{checkpointfiles.StateFileName, checkpointfiles.PagesMetadataFileName, checkpointfiles.PagesFileName}
		err = c.Checkpoint(&config.Config{}, req.Tmp, sandbox.CheckpointOpts{
			Compression: statefile.CompressionLevelNone, // so that pages can be read as they are asked for
			Resume:      true,                           // or gVisor ends the sandbox; frozen it stays
			// Pages that were written once and hold nothing but zeros, such as
			// those that a program's memory manager has given back.
			ExcludeCommittedZeroPages: true,
		})
	} else {
		names = []string{checkpointfiles.FSCheckpointManifestFileName, checkpointfiles.FSCheckpointMultiTarFileName, checkpointfiles.PagesMetadataFileName, checkpointfiles.PagesFileName}
		err = c.FSSave(&config.Config{}, req.Tmp, sandbox.FSSaveOpts{})
	}
	if err != nil {
		return err
	}
	result.Save = time.Since(start)

	start = time.Now()
	manifest := req.Keep
	manifest.GVisor, manifest.Arch, manifest.CPU = gvisorVersion(), runtime.GOARCH, cpuFeatures()
	if manifest.Files, err = syncFiles(req.Tmp, names); err != nil {
		return err
	}
	if err := manifest.Write(req.Tmp); err != nil {
		return fmt.Errorf("writing the manifest: %w", err)
	}
	if err := syncPath(req.Tmp); err != nil {
		return err
	}
	select {
	case <-givenUp:
		return errors.New("the server gave the checkpoint up")
	default:
	}
	if err := os.Rename(req.Tmp, req.Final); err != nil {
		return err
	}
	if err := syncPath(filepath.Dir(req.Final)); err != nil {
		return errors.Join(err, os.RemoveAll(req.Final))
	}
	result.Sync = time.Since(start)
	result.Bytes = manifest.Bytes()
	return nil
}

// remove removes what a failed checkpoint has written. The sandbox's kernel may
// hold the files open still: emptied they take no room.
func remove(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, file := range files {
		err = errors.Join(err, os.Truncate(file, 0))
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// syncFiles brings the files to the disk, and reads them for their checksums
// meanwhile: they are in the machine's memory still.
func syncFiles(dir string, names []string) ([]launch.File, error) {
	files := make([]launch.File, len(names))
	errs := make([]error, 2*len(names))
	var group sync.WaitGroup
	for i, name := range names {
		path := filepath.Join(dir, name)
		group.Go(func() { errs[2*i] = syncPath(path) })
		group.Go(func() {
			files[i].Name = name
			files[i].Size, files[i].Sum, errs[2*i+1] = launch.Checksum(path)
		})
	}
	group.Wait()
	return files, errors.Join(errs...)
}

// syncPath waits until a directory, or a file, is on the disk.
func syncPath(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

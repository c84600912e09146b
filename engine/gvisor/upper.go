package gvisor

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
	"cube/image/layer"
)

// What a sandbox has written is in an unlinked file of its directory, which its
// kernel holds open. Where a file's bytes are in it, the kernel lists: see listUpper
// in cmd/runsc. A hostile kernel can say what it likes and gets no more into the
// layer than the file holds.

// storePrefix starts the file's name, while it has one: gVisor's package container.
const storePrefix = "runsc-filestore-"

// readUpper freezes a sandbox and unpacks what it has written as a layer.
func (e *Engine) readUpper(ctx context.Context, id cube.SandboxID, r record, final string) (int64, error) {
	store, err := e.openStore(id, r)
	if err != nil {
		return 0, err
	}
	defer store.Close()
	in, out, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	// A checkpoint that is given up ends the unpacking, and with it the writing. So
	// does one whose kernel never ends its list.
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = in.Close() })
	defer stop()
	type result struct {
		bytes int64
		err   error
	}
	unpacked := make(chan result, 1)
	go func() {
		size, err := e.unpackLayer(final, func(dir string) (layer.Size, error) {
			// A page that is written is in one file alone.
			limits := layer.Limits{Bytes: int64(r.Resources.DiskMB) << 20}
			size, err := layer.UnpackWritten(in, dir, limits, contentsIn(store))
			if e, theirs := errors.AsType[*layer.Error](err); theirs {
				err = cube.WrapError(cube.Unsupported, err, "what sandbox %s has written cannot be kept as a layer: %s", id, e.Message)
			}
			return size, err
		})
		_ = in.Close()
		unpacked <- result{size.Bytes, err}
	}()
	_, err = e.runCheckpoint(ctx, launch.CheckpointRequest{Dir: e.dir(id), Upper: true, Timeout: checkpointTimeout}, out)
	if err != nil {
		_ = in.Close()
	}
	done := <-unpacked
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case done.err != nil && !errors.Is(done.err, os.ErrClosed):
		return 0, done.err // the cause of the other
	}
	return done.bytes, errors.Join(err, done.err)
}

// openStore opens the file that a sandbox's kernel writes to.
func (e *Engine) openStore(id cube.SandboxID, r record) (*os.File, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", r.Sentry.PID))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		name, err := os.Readlink(file)
		if err != nil || !strings.HasPrefix(filepath.Base(name), storePrefix) {
			continue
		}
		store, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		if err := e.checkStore(id, r, store); err != nil {
			_ = store.Close()
			return nil, err
		}
		return store, nil
	}
	return nil, notRunning(id)
}

// checkStore makes sure that the file is one of the sandbox's kernel, and that the
// process is this kernel still.
func (e *Engine) checkStore(id cube.SandboxID, r record, store *os.File) error {
	var there, stat unix.Stat_t
	if err := errors.Join(unix.Stat(e.dir(id), &there), unix.Fstat(int(store.Fd()), &stat)); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Nlink != 0 || stat.Dev != there.Dev {
		return fmt.Errorf("the kernel of sandbox %s has something else in the place of its file store", id)
	}
	sentry, err := findProcess(r.Sentry)
	if errors.Is(err, os.ErrProcessDone) {
		return notRunning(id)
	}
	if err != nil {
		return err
	}
	sentry.close()
	return nil
}

// maxParts bounds the list of one file's parts: 16 GiB of single pages.
const maxParts = 1 << 22

// contentsIn reads what gVisor writes in the place of a file's content
// (fscheckpoint.go in its package tmpfs): the size, and for each part where it
// begins and ends in the file and where it begins in the store.
func contentsIn(store io.ReaderAt) layer.Contents {
	return func(h *tar.Header, entry io.Reader) (layer.File, error) {
		const sizeLength, partLength = 8, 3 * 8
		parts := (h.Size - sizeLength) / partLength
		if h.Size < sizeLength || (h.Size-sizeLength)%partLength != 0 || parts > maxParts {
			return layer.File{}, fmt.Errorf("the kernel lists a file in %d bytes", h.Size)
		}
		list := bufio.NewReader(entry)
		number := make([]byte, partLength)
		if _, err := io.ReadFull(list, number[:sizeLength]); err != nil {
			return layer.File{}, err
		}
		file := layer.File{Size: int64(binary.LittleEndian.Uint64(number)), From: store}
		for range parts {
			if _, err := io.ReadFull(list, number); err != nil {
				return layer.File{}, err
			}
			start, end := int64(binary.LittleEndian.Uint64(number)), int64(binary.LittleEndian.Uint64(number[8:]))
			// The last page goes on after the file's end.
			if end = min(end, file.Size); start < end {
				file.Parts = append(file.Parts, layer.Part{At: start, Size: end - start, From: int64(binary.LittleEndian.Uint64(number[16:]))})
			}
		}
		return file, nil
	}
}

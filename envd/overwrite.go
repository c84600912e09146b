package envd

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cube/envd/filesystem"
	"cube/envd/users"
)

// An upload over a file waits beside it until all of it is here: what breaks off, or
// finds the disk full, leaves the file as it was. Then it is written in place, and
// not renamed over it: the file keeps its links and mounts, whoever has it open reads
// what is new, and whoever watches it is told of a write, as with E2B's agent.

// overwrite replaces what an open regular file of old bytes holds.
func overwrite(file *os.File, u users.User, content io.Reader, metadata map[string]string, old int64) error {
	buffer := uploadBuffers.Get().(*[]byte)
	defer uploadBuffers.Put(buffer)
	n, err := fill(*buffer, content)
	waiting, size := io.Reader(nil), int64(n)
	switch {
	case errors.Is(err, io.EOF): // that is all
	case err != nil:
		return brokenOff(err)
	default:
		beside, err := unnamedFile(filepath.Dir(file.Name()))
		if err != nil {
			return err
		}
		defer beside.Close()
		more, err := receive(beside, content)
		if err != nil {
			return err
		}
		if _, err := beside.Seek(0, io.SeekStart); err != nil {
			return err
		}
		waiting, size = beside, size+more
	}
	if err := makeRoom(file, size, old); err != nil {
		return err
	}
	if err := file.Chown(int(u.UID), int(u.GID)); err != nil {
		return err
	}
	if _, err := file.Write((*buffer)[:n]); err != nil {
		return err
	}
	if waiting != nil {
		if _, err := io.Copy(file, waiting); err != nil {
			return err
		}
	}
	// The kernel's own files have a size and no end that could be moved.
	if err := file.Truncate(size); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return filesystem.SetMetadata(file, metadata)
}

// fill reads until the buffer is full, or an error, which is io.EOF if that was all.
// io.ReadFull does not tell a body that ended from one that broke off.
func fill(buffer []byte, content io.Reader) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = content.Read(buffer[n:])
		n += more
	}
	return n, err
}

// makeRoom finds out whether there is room for size bytes in a file of old bytes,
// before any of them is written.
func makeRoom(file *os.File, size, old int64) error {
	if size == 0 {
		return nil
	}
	err := unix.Fallocate(int(file.Fd()), 0, 0, size)
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return nil // there is, or its file system cannot tell
	}
	if size > old {
		_ = file.Truncate(old)
	}
	return &os.PathError{Op: "fallocate", Path: file.Name(), Err: err}
}

// unnamedFile makes a file that is gone when it is closed: on the disk, where a
// sandbox has some, and else in dir.
func unnamedFile(dir string) (*os.File, error) {
	var err error
	for _, at := range []string{"/var/tmp", "/tmp", dir} {
		var file *os.File
		if file, err = os.CreateTemp(at, ".upload-"); err == nil {
			if err = os.Remove(file.Name()); err != nil {
				_ = file.Close()
				return nil, err
			}
			return file, nil
		}
	}
	return nil, err
}

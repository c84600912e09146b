// Package layer unpacks layers of images: tar files that say what changes in a
// root file system. What comes out is a directory in the form of overlayfs's lower
// layers, so that several of them are mounted as one root: a deleted file is a
// character device 0/0, a directory that hides what is below it has the attribute
// trusted.overlay.opaque (Documentation/filesystems/overlayfs.rst in Linux).
//
// A layer is unpacked alone, as docker and containerd do over overlayfs: a path
// through a link of the same layer follows it, within the layer. One through what
// is a link in a layer below makes a directory, which takes that link's place.
//
// A layer is hostile. Nothing is written outside the directory, whatever names
// and links the layer holds; no device can be opened through it; its size and its
// number of files are bounded. It needs root, for owners and for those marks.
package layer

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"golang.org/x/sys/unix"
)

// Limits bound what a layer may hold. 0 means the default.
type Limits struct {
	Bytes   int64 // of all its files together, holes included
	Entries int   // files, directories and links
}

const (
	defaultBytes   = 64 << 30
	defaultEntries = 2_000_000
	// maxPath and maxName are the kernel's: PATH_MAX and NAME_MAX of limits.h.
	maxPath = 4095
	maxName = 255
	// maxTrailer bounds what follows the end of the archive: padding.
	maxTrailer = 16 << 20
	// maxNames bounds what is remembered of directories until the end, in bytes. The
	// largest images have some 20 MB.
	maxNames = 256 << 20
)

// Error is what is wrong with a layer, in words for whoever made it.
type Error struct{ Message string }

func (e *Error) Error() string { return e.Message }

func wrong(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Size is what a layer holds.
type Size struct {
	Bytes   int64
	Entries int
}

// Unpack unpacks a layer, an uncompressed tar file, into dir, which must be an
// empty directory. diffID is what the tar file's hash must be ("sha256:…"); "" for
// whatever it is. On an error dir may hold anything. An *Error is the layer's fault.
// Nothing is brought to the disk, which a caller does best for many at once.
func Unpack(r io.Reader, dir, diffID string, limits Limits) (Size, error) {
	hash := sha256.New()
	in := io.TeeReader(r, hash)
	return unpackTar(in, dir, unpacker{limits: limits}, func() error {
		// The hash is of the whole stream.
		if n, err := io.Copy(io.Discard, io.LimitReader(in, maxTrailer+1)); err != nil {
			return fmt.Errorf("reading the end of the layer: %w", err)
		} else if n > maxTrailer {
			return wrong("the layer goes on for more than %d bytes after its end", maxTrailer)
		}
		if diffID == "" {
			return nil
		}
		return compare(hash, diffID)
	})
}

// Prove tells whether a layer, an uncompressed tar file, is the one of a hash. It
// unpacks nothing.
func Prove(r io.Reader, diffID string) error {
	hash := sha256.New()
	// What is longer than this is no layer that was ever unpacked.
	if _, err := io.Copy(hash, io.LimitReader(r, 2*defaultBytes)); err != nil {
		return fmt.Errorf("reading the layer: %w", err)
	}
	return compare(hash, diffID)
}

func compare(sum hash.Hash, diffID string) error {
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != diffID {
		return wrong("the layer's content is %s, not the %.80s that its image says", got, diffID)
	}
	return nil
}

// UnpackWritten unpacks what a sandbox has written, as Unpack does, from a tar
// file whose regular files say where their contents are. Devices are left out: a
// sandbox's own kernel makes them for it, and no file system may hold them.
func UnpackWritten(r io.Reader, dir string, limits Limits, contents Contents) (Size, error) {
	return unpackTar(r, dir, unpacker{limits: limits, contents: contents}, func() error {
		// Whoever writes it must be able to end.
		_, err := io.Copy(io.Discard, io.LimitReader(r, maxTrailer))
		return err
	})
}

// unpackTar unpacks all entries; end looks at what follows them.
func unpackTar(r io.Reader, dir string, u unpacker, end func() error) (Size, error) {
	if u.limits.Bytes == 0 {
		u.limits.Bytes = defaultBytes
	}
	if u.limits.Entries == 0 {
		u.limits.Entries = defaultEntries
	}
	var err error
	if u.root, err = unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return Size{}, err
	}
	defer func() { _ = unix.Close(u.root) }()
	u.times = map[string]unix.Timespec{}
	defer u.leave()
	err = u.all(tar.NewReader(r))
	if err == nil {
		err = end()
	}
	if err == nil {
		err = u.setTimes()
	}
	return u.size, err
}

// all unpacks every entry.
func (u *unpacker) all(in *tar.Reader) error {
	for {
		header, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong), errors.Is(err, io.ErrUnexpectedEOF):
			return wrong("the layer is no whole tar file: %v", err)
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return fmt.Errorf("reading the layer: %w", err)
		}
		if err := u.count(); err != nil {
			return err
		}
		if err := u.one(header, in); err != nil {
			if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
				return fmt.Errorf("there is no room on the disk for the layer: %w", err)
			}
			if _, theirs := errors.AsType[*Error](err); theirs {
				return err
			}
			return fmt.Errorf("unpacking %.200q: %w", header.Name, err)
		}
	}
}

// count counts a file.
func (u *unpacker) count() error {
	if u.size.Entries++; u.size.Entries > u.limits.Entries {
		return wrong("the layer holds more than %d files", u.limits.Entries)
	}
	return nil
}

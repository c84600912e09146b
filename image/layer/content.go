package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Contents tells what is in a regular file of a tar file. entry is what the tar
// file has of it. Its errors end the unpacking.
type Contents func(h *tar.Header, entry io.Reader) (File, error)

// File is the content of a regular file: parts, ascending, and zeros between them.
type File struct {
	Size  int64
	Parts []Part
	From  io.ReaderAt // where the parts are
}

// Part is some bytes of a file.
type Part struct {
	At, Size int64 // in the file
	From     int64 // where they begin in File.From
}

// check refuses contents that cannot be, and counts their bytes. Zeros between
// parts take no room.
func (u *unpacker) check(file File) error {
	if file.Size < 0 {
		return wrong("the layer holds a file smaller than nothing")
	}
	end := int64(0)
	for _, p := range file.Parts {
		if p.Size < 0 || p.At < end || p.From < 0 || p.Size > file.Size-p.At || p.From > math.MaxInt64-p.Size {
			return wrong("the layer holds a file whose parts do not fit into it")
		}
		if p.Size > u.limits.Bytes-u.size.Bytes {
			return wrong("the layer holds more than %d bytes", u.limits.Bytes)
		}
		end = p.At + p.Size
		u.size.Bytes += p.Size
	}
	return nil
}

// blockSize is what is left out of a file where it holds nothing but zeros.
const blockSize = 64 << 10

var zeros [blockSize]byte

// write writes a file's content with holes for zeros, so that a sparse file takes
// the room that it took.
func (u *unpacker) write(out *os.File, entry io.Reader, file File) error {
	end := int64(0) // of what was written
	for _, p := range file.Parts {
		from := entry
		if file.From != nil {
			from = io.NewSectionReader(file.From, p.From, p.Size)
		}
		var err error
		if end, err = u.writePart(out, from, p); err != nil {
			return err
		}
	}
	if end == file.Size {
		return nil
	}
	err := out.Truncate(file.Size)
	if errors.Is(err, unix.EFBIG) || errors.Is(err, unix.EINVAL) {
		return wrong("the layer holds a file of %d bytes, which is larger than this machine's file system has", file.Size)
	}
	return err
}

// writePart returns where what it has written ends in the file.
func (u *unpacker) writePart(out *os.File, from io.Reader, p Part) (end int64, err error) {
	if u.buffer == nil {
		u.buffer = make([]byte, blockSize)
	}
	for done := int64(0); done < p.Size; {
		block := u.buffer[:min(blockSize, p.Size-done)]
		if _, err := io.ReadFull(from, block); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return 0, wrong("the layer ends in the middle of a file")
			}
			return 0, err
		}
		if !bytes.Equal(block, zeros[:len(block)]) {
			if _, err := out.WriteAt(block, p.At+done); err != nil {
				return 0, err
			}
			end = p.At + done + int64(len(block))
		}
		done += int64(len(block))
	}
	return end, nil
}

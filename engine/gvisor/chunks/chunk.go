package chunks

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A chunk ends after a page that says so by its content alone: where pages were
// put in before it, what follows is cut as it was, and found again.
const (
	pageSize = 4096
	minPages = 8
	maxPages = 128
	// cutMask makes one page in 32 an end.
	cutMask = 31
	// maxChunk is the size of the largest, in bytes.
	maxChunk = maxPages * pageSize
)

// Name is a chunk's: of its content, with a key by HMAC.
type Name [sha256.Size]byte

func (n Name) String() string { return hex.EncodeToString(n[:]) }

// MarshalText implements encoding.TextMarshaler.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Name) UnmarshalText(text []byte) error {
	if len(text) != 2*len(n) {
		return errDamaged
	}
	_, err := hex.Decode(n[:], text)
	return err
}

var errDamaged = errors.New("it is not what was written")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cut calls each with the chunks of r, one after the other.
func cut(r io.Reader, each func([]byte) error) error {
	buffer := make([]byte, 0, maxChunk)
	page := make([]byte, pageSize)
	for {
		n, err := io.ReadFull(r, page)
		buffer = append(buffer, page[:n]...)
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			return err
		}
		whole := len(buffer) >= minPages*pageSize && crc32.Checksum(page[:n], castagnoli)&cutMask == 0
		if len(buffer) > 0 && (ended || whole || len(buffer) == maxChunk) {
			if err := each(buffer); err != nil {
				return err
			}
			buffer = buffer[:0]
		}
		if ended {
			return nil
		}
	}
}

// The first byte of what is on the disk.
const (
	flagZstd   = 1
	flagSealed = 2
)

var (
	encoder, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	decoder, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(2*maxList))
)

// encode makes of data what is written at a place.
func encode(keys Keys, data, place []byte) []byte {
	var flags byte
	if packed := encoder.EncodeAll(data, nil); len(packed) < len(data) {
		flags, data = flagZstd, packed
	}
	if len(keys) > 0 {
		flags |= flagSealed
		data = keys.lock(data, append([]byte{flags}, place...))
	}
	return append([]byte{flags}, data...)
}

// decode undoes encode. sealed is the key, nil for none.
func decode(keys Keys, data, place []byte) (plain []byte, sealed *key, err error) {
	if len(data) == 0 || data[0] > flagZstd|flagSealed {
		return nil, nil, errDamaged
	}
	flags, data := data[0], data[1:]
	if flags&flagSealed != 0 {
		plain, k, err := keys.open(data, append([]byte{flags}, place...))
		if err != nil {
			return nil, nil, err
		}
		data, sealed = plain, &k
	}
	if flags&flagZstd != 0 {
		if data, err = decoder.DecodeAll(data, nil); err != nil {
			return nil, nil, errDamaged
		}
	}
	return data, sealed, nil
}

// decodeChunk undoes encode for a chunk, and compares it with its name.
func decodeChunk(keys Keys, data []byte, name Name) ([]byte, error) {
	plain, sealed, err := decode(keys, data, name[:])
	if err != nil {
		return nil, err
	}
	is := Name(sha256.Sum256(plain))
	if sealed != nil {
		is = sealed.nameOf(plain)
	}
	if is != name {
		return nil, errDamaged
	}
	return plain, nil
}

package image

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"cube"
)

// maxWindow is the memory that a zstd stream may ask for: what its highest
// ordinary level needs.
const maxWindow = 128 << 20

// What compressed files begin with.
var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

func isCompressed(start []byte) bool {
	return bytes.HasPrefix(start, gzipMagic) || bytes.HasPrefix(start, zstdMagic)
}

// uncompressed returns what r holds, be it gzip, zstd or neither: what it says
// of itself elsewhere is not asked. It ends with an error after limit bytes, and
// closes r when it is closed.
func uncompressed(r io.ReadCloser, limit int64) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	out := &bounded{inner: buffered, close: r.Close, rest: limit, limit: limit}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("reading gzip: %w", err)
		}
		out.inner = z
	case bytes.HasPrefix(magic, zstdMagic):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("reading zstd: %w", err)
		}
		out.inner = z
		out.close = func() error { z.Close(); return r.Close() }
	}
	return out, nil
}

// bounded ends with an error after so many bytes.
type bounded struct {
	inner       io.Reader
	close       func() error
	rest, limit int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.rest+1 {
		p = p[:b.rest+1]
	}
	n, err := b.inner.Read(p)
	if int64(n) > b.rest {
		return int(b.rest), cube.Errorf(cube.TooLarge, "one of the image's layers unpacks to more than %d MiB: use a smaller image", b.limit>>20)
	}
	b.rest -= int64(n)
	return n, err
}

// Close implements io.Closer.
func (b *bounded) Close() error { return b.close() }

package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"cube"
)

// Archive is an image in a file: what `docker save` writes, an OCI layout, or
// the tar file of a root file system, which is an image of one layer. Each may
// be compressed with gzip or zstd.
type Archive struct {
	Image Image
	file  *os.File // not compressed
	parts map[string]part
	root  bool // it has something of a root file system
}

// part is a file in an archive.
type part struct {
	offset, size int64
	link         string // another's name: old dockers share layers so
}

const (
	// maxParts is how many files an archive of layers may have; root file systems
	// have more, which nobody needs to find. Names longer than maxPartName are none
	// of an image's.
	maxParts    = 8 << 10
	maxPartName = 512
	// maxEntries is how many entries of a tar file are looked at.
	maxEntries = 4 << 20
)

// indexes are what an image's other files are found by, wherever they stand.
var indexes = map[string]bool{"/oci-layout": true, "/index.json": true, "/manifest.json": true}

// OpenArchive is ReadArchive of a file by its name.
func OpenArchive(ctx context.Context, file string, limit int64) (*Archive, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	return ReadArchive(ctx, f, limit)
}

// ReadArchive reads what an archive holds. A compressed one is unpacked beside
// it first, to a file without a name, of at most limit bytes. The image's layers
// can be opened until Close, which closes f, as an error does. Errors are for the
// person whose archive it is.
func ReadArchive(ctx context.Context, f *os.File, limit int64) (*Archive, error) {
	a := &Archive{file: f, parts: map[string]part{}}
	if err := a.open(ctx, limit); err != nil {
		_ = a.file.Close()
		return nil, err
	}
	return a, nil
}

// Close ends what layers there are open.
func (a *Archive) Close() error { return a.file.Close() }

func (a *Archive) open(ctx context.Context, limit int64) error {
	if err := a.decompress(ctx, limit); err != nil {
		return err
	}
	if err := a.list(ctx); err != nil {
		return err
	}
	_, isLayout := a.find("oci-layout")
	_, isSaved := a.find("manifest.json")
	var err error
	switch {
	case a.root: // whatever else is in it
		a.Image, err = a.rootfs(ctx)
	case isLayout:
		a.Image, err = a.layout()
	case isSaved:
		a.Image, err = a.saved()
	default:
		err = cube.Errorf(cube.Invalid, "the archive is no image and no root file system: it has neither manifest.json nor oci-layout, and no /bin, /usr or /etc")
	}
	return err
}

// decompress replaces a compressed file by one without a name.
func (a *Archive) decompress(ctx context.Context, limit int64) error {
	var magic [4]byte
	if _, err := a.file.ReadAt(magic[:], 0); err != nil {
		return cube.WrapError(cube.Invalid, err, "the archive is empty")
	}
	if !isCompressed(magic[:]) {
		return nil
	}
	plain, err := uncompressed(a.file, limit)
	if err != nil {
		return damagedArchive(err)
	}
	defer plain.Close() // the compressed one too
	out, err := os.CreateTemp(filepath.Dir(a.file.Name()), "archive-*")
	if err != nil {
		return err
	}
	a.file = out
	if err := os.Remove(out.Name()); err != nil {
		return err
	}
	if _, err := io.Copy(out, &cancelled{ctx, plain}); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if failure, ok := errors.AsType[*os.PathError](err); ok {
			return failure // of writing
		}
		return damagedArchive(err)
	}
	_, err = out.Seek(0, io.SeekStart)
	return err
}

func damagedArchive(err error) error {
	if e, ok := errors.AsType[*cube.Error](err); ok {
		return e
	}
	return cube.WrapError(cube.Invalid, err, "the archive is damaged: write it again with 'docker save -o FILE IMAGE'")
}

// list finds the files of the archive.
func (a *Archive) list(ctx context.Context) error {
	r := tar.NewReader(a.file)
	for entries := 0; ; entries++ {
		if entries%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if entries > maxEntries {
			return cube.Errorf(cube.TooLarge, "the archive has more than %d entries", maxEntries)
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			if entries == 0 {
				return cube.Errorf(cube.Invalid, "the archive is empty")
			}
			return nil
		}
		if err != nil {
			if entries == 0 {
				return cube.WrapError(cube.Invalid, err, "this is no tar file: give what 'docker save -o FILE IMAGE' writes, an OCI layout, or the tar file of a root file system")
			}
			return damagedArchive(err)
		}
		name := path.Clean("/" + h.Name)
		switch first, _, _ := strings.Cut(name[1:], "/"); first {
		case "bin", "etc", "usr":
			a.root = true
		}
		if len(name) > maxPartName || len(h.Linkname) > maxPartName || len(a.parts) >= maxParts && !indexes[name] {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg:
			// The reader has read the header alone, without a buffer.
			at, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			if !sparse(h) {
				a.parts[name] = part{offset: at, size: h.Size}
			}
		case tar.TypeSymlink:
			a.parts[name] = part{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			a.parts[name] = part{link: path.Clean("/" + h.Linkname)}
		}
	}
}

// sparse tells of a file that is not in the archive as it is.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (a *Archive) find(name string) (part, bool) {
	p, found := a.parts[path.Clean("/"+name)]
	if found && p.link != "" {
		p, found = a.parts[p.link]
		found = found && p.link == ""
	}
	return p, found
}

// read returns a small file of the archive.
func (a *Archive) read(name string, limit int64) ([]byte, error) {
	p, found := a.find(name)
	if !found {
		return nil, cube.Errorf(cube.Invalid, "the archive has no %.200s: write it again with 'docker save -o FILE IMAGE'", name)
	}
	if p.size > limit {
		return nil, cube.Errorf(cube.TooLarge, "the archive's %.200s has %d bytes: %d are possible", name, p.size, limit)
	}
	b := make([]byte, p.size)
	if _, err := a.file.ReadAt(b, p.offset); err != nil && p.size > 0 {
		return nil, damagedArchive(err)
	}
	return b, nil
}

// layer is a layer in the archive; it must be there.
func (a *Archive) layer(name, diffID string) (cube.ImageLayer, error) {
	p, found := a.find(name)
	if !found {
		return cube.ImageLayer{}, cube.Errorf(cube.Invalid, "the archive has no layer %.200s: write it again with 'docker save -o FILE IMAGE'", name)
	}
	return cube.ImageLayer{DiffID: diffID, Open: func(context.Context) (io.ReadCloser, error) {
		plain, err := uncompressed(io.NopCloser(io.NewSectionReader(a.file, p.offset, p.size)), maxUncompressed)
		if err != nil {
			return nil, damagedArchive(err)
		}
		return &explained{ReadCloser: newAhead(plain, func() {}), explain: damagedArchive}, nil
	}}, nil
}

// rootfs is the archive as its only layer.
func (a *Archive) rootfs(ctx context.Context) (Image, error) {
	info, err := a.file.Stat()
	if err != nil {
		return Image{}, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, &cancelled{ctx, io.NewSectionReader(a.file, 0, info.Size())}); err != nil {
		return Image{}, err
	}
	diffID := "sha256:" + hex.EncodeToString(h.Sum(nil))
	return Image{Digest: diffID, Layers: []cube.ImageLayer{{DiffID: diffID, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(a.file, 0, info.Size())), nil
	}}}}, nil
}

// cancelled ends with its context.
type cancelled struct {
	ctx context.Context
	io.Reader
}

// Read implements io.Reader.
func (c *cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, fmt.Errorf("reading the archive: %w", err)
	}
	return c.Reader.Read(p)
}

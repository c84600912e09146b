package build

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// merge is a COPY on its way.
type merge struct {
	Copy
	source  string // without slashes at its ends; "" for all
	seen    int    // entries of the archive
	entries int    // those of them that were copied
	single  bool   // the source is one file or link
	parent  string // the directory that the last entry went into
	buffer  []byte // for content: each write is a system call, and gVisor's are dear
}

// add copies one entry of the archive, if it belongs to the source.
func (m *merge) add(header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	relative, ours := below(m.source, inside(header.Name))
	if !ours {
		return nil
	}
	if m.single {
		return errorf("the uploaded archive holds %q below a file", header.Name)
	}
	m.entries++
	if relative == "" && header.Typeflag != tar.TypeDir {
		m.single = true
		return m.put(header, content, m.place())
	}
	target := filepath.Clean(m.Destination)
	isNew, err := m.Owner.MakeDirs(target)
	if err != nil {
		return err
	}
	if relative != "" {
		return m.put(header, content, filepath.Join(target, relative))
	}
	if isNew && m.Mode != nil { // the archive's own is that of somebody's working directory
		return plain(target, os.Chmod(target, *m.Mode))
	}
	return nil
}

// place returns where one file goes: into a directory under its own name, else
// under the destination's.
func (m *merge) place() string {
	target := filepath.Clean(m.Destination)
	info, err := os.Stat(target)
	if strings.HasSuffix(m.Destination, "/") || err == nil && info.IsDir() {
		return filepath.Join(target, path.Base(m.source))
	}
	return target
}

func (m *merge) mode(header *tar.Header) os.FileMode {
	if m.Mode != nil {
		return *m.Mode
	}
	return modeOf(header.Mode)
}

// put writes one entry to its place.
func (m *merge) put(header *tar.Header, content io.Reader, target string) error {
	if parent := filepath.Dir(target); parent != m.parent { // no entry takes a directory away
		if _, err := m.Owner.MakeDirs(parent); err != nil {
			return err
		}
		m.parent = parent
	}
	switch header.Typeflag {
	case tar.TypeDir:
		isNew, err := m.Owner.MakeDirs(target)
		if err == nil && isNew {
			err = plain(target, os.Chmod(target, m.mode(header)))
		}
		return err
	case tar.TypeReg:
		return m.file(header, content, target)
	case tar.TypeSymlink:
		if err := replace(target, func() error { return os.Symlink(header.Linkname, target) }); err != nil {
			return err
		}
		return plain(target, os.Lchown(target, m.Owner.UID, m.Owner.GID))
	case tar.TypeLink:
		first, ours := below(m.source, inside(header.Linkname))
		if !ours || first == "" || m.single {
			return errorf("%s is a hard link to %s, which is not copied", header.Name, header.Linkname)
		}
		return replace(target, func() error { return os.Link(filepath.Join(filepath.Clean(m.Destination), first), target) })
	default:
		return errorf("%s is neither a file, a directory nor a symbolic link", header.Name)
	}
}

func (m *merge) file(header *tar.Header, content io.Reader, target string) (err error) {
	var file *os.File
	err = replace(target, func() (err error) {
		file, err = os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if e := file.Close(); err == nil {
			err = plain(target, e)
		}
		if err == nil && !header.ModTime.IsZero() {
			err = plain(target, os.Chtimes(target, header.ModTime, header.ModTime))
		}
	}()
	if err := m.copyContent(file, content); err != nil {
		return err
	}
	if m.Owner != (Owner{}) { // whoever makes a file owns it already
		if err := file.Chown(m.Owner.UID, m.Owner.GID); err != nil {
			return plain(target, err)
		}
	}
	return plain(target, file.Chmod(m.mode(header))) // after chown, which takes set-user-ID bits away
}

// copyContent tells errors of the file from those of the archive.
func (m *merge) copyContent(file *os.File, content io.Reader) error {
	from := &source{r: content}
	_, err := io.CopyBuffer(struct{ io.Writer }{file}, from, m.buffer)
	switch {
	case from.err != nil:
		return broken(from.err)
	case err != nil:
		return plain(file.Name(), err)
	}
	return nil
}

// source remembers the error of reading.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// replace makes something new at a place, and what was there goes first, if that
// is no directory.
func replace(target string, create func() error) error {
	err := create()
	if !errors.Is(err, os.ErrExist) {
		return plain(target, err)
	}
	info, err := os.Lstat(target)
	if err == nil && info.IsDir() {
		return errorf("%s is a directory: it cannot be replaced by a file", target)
	}
	if err := os.Remove(target); err != nil {
		return plain(target, err)
	}
	return plain(target, create())
}

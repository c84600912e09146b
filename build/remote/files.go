package remote

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"cube/build"
)

// Files is an archive of what a step copies.
type Files struct{ path string }

// Directory is where a template's definition is, and the files that it copies.
type Directory struct {
	root    *os.Root // no link leads out of it
	ignored *patternmatcher.PatternMatcher
	kept    []string // archives, to be removed
}

// OpenDirectory reads its .dockerignore.
func OpenDirectory(dir string) (*Directory, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d := &Directory{root: root}
	var patterns []string
	switch f, err := root.Open(".dockerignore"); {
	case err == nil:
		patterns, err = ignorefile.ReadAll(f)
		_ = f.Close()
		if err != nil {
			_ = root.Close()
			return nil, fmt.Errorf(".dockerignore: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		_ = root.Close()
		return nil, err
	}
	if d.ignored, err = patternmatcher.New(patterns); err != nil {
		_ = root.Close()
		return nil, fmt.Errorf(".dockerignore: %w", err)
	}
	return d, nil
}

// Close removes the archives.
func (d *Directory) Close() error {
	for _, file := range d.kept {
		_ = os.Remove(file)
	}
	return d.root.Close()
}

// Read returns a file's text, such as the Dockerfile's.
func (d *Directory) Read(name string) (string, error) {
	b, err := d.root.ReadFile(name)
	return string(b), err
}

// Pack makes the archives of those steps that copy, and writes their hashes into
// the steps.
func (d *Directory) Pack(steps []build.Step) (map[string]*Files, error) {
	all := map[string]*Files{}
	for i := range steps {
		if steps[i].Type != "COPY" {
			continue
		}
		hash, files, err := d.pack(steps[i].Args[0])
		if err != nil {
			return nil, fmt.Errorf("COPY %s: %w", steps[i].Args[0], err)
		}
		steps[i].FilesHash = hash
		all[hash] = files
	}
	return all, nil
}

// pack writes an archive of what a source names, by the names in the directory.
// The hash is of what it holds: the same files have the same.
func (d *Directory) pack(source string) (hash string, files *Files, err error) {
	names, err := d.find(source)
	if err != nil {
		return "", nil, err
	}
	out, err := os.CreateTemp("", "cube-files-*.tar.gz")
	if err != nil {
		return "", nil, err
	}
	defer out.Close()
	d.kept = append(d.kept, out.Name())
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", source) // it decides what becomes of them
	buffered := bufio.NewWriterSize(out, 256<<10)
	z, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
	if err != nil {
		return "", nil, err
	}
	w := tar.NewWriter(io.MultiWriter(h, z))
	for _, name := range names {
		if err := d.add(w, name); err != nil {
			return "", nil, err
		}
	}
	if err := errors.Join(w.Close(), z.Close(), buffered.Flush()); err != nil {
		return "", nil, err
	}
	return hex.EncodeToString(h.Sum(nil)), &Files{path: out.Name()}, nil
}

// find lists what a source is: a file, a directory with all that is in it, or a
// pattern of them.
func (d *Directory) find(source string) ([]string, error) {
	clean := strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(source)), "/")
	if up := path.Clean(filepath.ToSlash(source)); up == ".." || strings.HasPrefix(up, "../") {
		return nil, errors.New("it is outside of the directory: copy what is needed into it first")
	}
	if clean == "" {
		clean = "."
	}
	matches := []string{clean}
	if strings.ContainsAny(clean, "*?[") {
		var err error
		if matches, err = fs.Glob(d.root.FS(), clean); err != nil {
			return nil, err
		}
	}
	var names []string
	for _, m := range matches {
		if info, err := d.root.Lstat(m); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			if ignored, err := d.ignored.MatchesOrParentMatches(m); err != nil {
				return nil, err
			} else if !ignored {
				names = append(names, m) // as it is, wherever it leads
			}
			continue
		}
		err := fs.WalkDir(d.root.FS(), m, func(name string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			ignored := false
			if name != "." {
				if ignored, err = d.ignored.MatchesOrParentMatches(name); err != nil {
					return err
				}
			}
			if ignored {
				if e.IsDir() && !d.ignored.Exclusions() {
					return fs.SkipDir
				}
				return nil
			}
			names = append(names, name)
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New("there is no such file in the directory")
		}
		if err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, errors.New("there is no such file in the directory, or .dockerignore leaves it out")
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// add writes one file: whose it is and when it changed is left out, so that the
// same files give the same archive.
func (d *Directory) add(w *tar.Writer, name string) error {
	info, err := d.root.Lstat(name)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Format: tar.FormatPAX}
	switch {
	case info.Mode().IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
	case info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = d.root.Readlink(name); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is no file, directory or link: leave it out with .dockerignore", name)
	}
	if err := w.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(w, f, h.Size); err != nil {
		return fmt.Errorf("%s changed while it was read: %w", name, err)
	}
	return nil
}

// hashFile is the hash by which an archive is uploaded: that of its bytes.
func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

package remote

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"cube/build"
)

// Files are what a step copies. They are compressed when they are sent, which most
// of the time is not needed: whether a server has them their hash tells.
type Files struct {
	dir     *Directory
	source  string // the step's
	hash    string
	entries []entry
}

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

// StepError is what is wrong with one of the steps.
type StepError struct {
	Step int // its index
	Err  error
}

func (e *StepError) Error() string { return e.Err.Error() }
func (e *StepError) Unwrap() error { return e.Err }

// Pack finds the files of those steps that copy, and writes their hashes into the
// steps, and what their patterns stand for if that is one file.
func (d *Directory) Pack(steps []build.Step) (map[string]*Files, error) {
	all := map[string]*Files{}
	for i := range steps {
		if steps[i].Type != "COPY" {
			continue
		}
		if err := d.pack(&steps[i], all); err != nil {
			return nil, &StepError{i, fmt.Errorf("COPY %s: %w", steps[i].Args[0], err)}
		}
	}
	return all, nil
}

// pack finds what a step copies. The hash is of what it holds: the same files have
// the same.
func (d *Directory) pack(step *build.Step, all map[string]*Files) error {
	entries, err := d.find(step)
	if err != nil {
		return err
	}
	f := &Files{dir: d, source: step.Args[0], entries: entries}
	if f.hash, err = f.write(io.Discard); err != nil {
		return err
	}
	step.FilesHash = f.hash
	all[f.hash] = f
	return nil
}

// write writes them as a tar file, and returns its hash.
func (f *Files) write(out io.Writer) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", f.source) // it decides what becomes of them
	w := tar.NewWriter(io.MultiWriter(h, out))
	for _, e := range f.entries {
		if err := f.dir.add(w, e); err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// archive writes them compressed into a file, which goes with the directory, and
// returns its name.
func (f *Files) archive() (string, error) {
	out, err := os.CreateTemp("", "cube-files-*.tar.gz")
	if err != nil {
		return "", err
	}
	defer out.Close()
	f.dir.kept = append(f.dir.kept, out.Name())
	buffered := bufio.NewWriterSize(out, 256<<10)
	z, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
	if err != nil {
		return "", err
	}
	hash, err := f.write(z)
	if err == nil && hash != f.hash {
		err = fmt.Errorf("the files of COPY %s have changed while they were read: build again", f.source)
	}
	return out.Name(), errors.Join(err, z.Close(), buffered.Flush())
}

// add writes one file: whose it is and when it changed is left out, so that the
// same files give the same archive.
func (d *Directory) add(w *tar.Writer, e entry) error {
	info, err := d.root.Lstat(e.name)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: e.as, Mode: int64(info.Mode().Perm()), Format: tar.FormatPAX}
	switch {
	case info.Mode().IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
	case info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, e.as+"/"
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = d.root.Readlink(e.name); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is no file, directory or link: leave it out with .dockerignore", e.name)
	}
	if err := w.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := d.root.Open(e.name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(w, f, h.Size); err != nil {
		return fmt.Errorf("%s changed while it was read: %w", e.name, err)
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

// Package image makes the root file systems that sandboxes start from. It never
// runs anything that is in one, and follows no link out of one.
package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Root is a root file system: a directory, with parts of the host bound into
// it. All of it is read-only for the sandboxes that share it.
type Root struct {
	Dir    string
	Binds  []Bind
	Masked []string // files and directories, relative to Dir, that must read as empty
	Top    bool     // Dir lies over layers of an image, and is nothing without them
}

// Bind puts the host's Source at Target below the root's directory.
type Bind struct{ Source, Target string }

// hostBasePrefix starts the names of the directories that MakeHostBase makes.
const hostBasePrefix = "base-"

// MakeHostBase makes the root of the template "base" from this machine: the
// host's /usr as it is, a generated /etc, and a "user" account. There is
// nothing in it of the host's /home, /root, /var or secrets: of /etc only what
// a list names, and whatever in /usr not everybody may read is masked, because
// root inside would read it otherwise.
//
// It takes no network and about a second. The result stands in a directory
// below imagesDir that is named for its content, so calling it again is cheap
// and a root that sandboxes use is never changed under them. agent is the
// program that becomes the first process, and agentPath where it expects to be.
func MakeHostBase(imagesDir string, agent []byte, agentPath string) (Root, error) {
	// Nobody of the machine's own gets in: what has the set-user-ID bit for the
	// people inside has it for them too. Sandboxes see their root by a mount.
	if err := errors.Join(os.MkdirAll(imagesDir, 0o700), os.Chmod(imagesDir, 0o700)); err != nil {
		return Root{}, err
	}
	// Left by a server that was killed at this point.
	stale, _ := filepath.Glob(filepath.Join(imagesDir, "tmp-*"))
	for _, dir := range stale {
		_ = os.RemoveAll(dir)
	}
	var root Root
	describe := func(t *tree) error {
		root.Binds = t.hostDirectories()
		t.skeleton()
		t.hostEtc()
		t.generatedEtc()
		t.accounts()
		t.file(agentPath, string(agent), 0o755)
		t.standIns(string(agent))
		return t.err
	}
	var err error
	if root.Dir, err = makeOnce(imagesDir, hostBasePrefix, describe); err != nil {
		return Root{}, fmt.Errorf("making the base image: %w", err)
	}
	for _, b := range root.Binds {
		masked, err := privatePaths(b)
		if err != nil {
			return Root{}, fmt.Errorf("looking for private files in %s: %w", b.Source, err)
		}
		root.Masked = append(root.Masked, masked...)
	}
	return root, nil
}

// RemoveHostBases removes the host-made roots below imagesDir for which inUse
// answers no.
func RemoveHostBases(imagesDir string, inUse func(dir string) bool) error {
	dirs, err := filepath.Glob(filepath.Join(imagesDir, hostBasePrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if !inUse(dir) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// makeOnce makes the tree that describe makes below imagesDir, named for its
// content, unless it is there, and returns its path.
func makeOnce(imagesDir, prefix string, describe func(*tree) error) (string, error) {
	known := newTree("")
	if err := describe(known); err != nil {
		return "", err
	}
	dir := filepath.Join(imagesDir, prefix+known.digest())
	if _, err := os.Lstat(dir); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(imagesDir, "tmp-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	t := newTree(tmp)
	if err := describe(t); err != nil {
		return "", err
	}
	dir = filepath.Join(imagesDir, prefix+t.digest()) // the host may have changed meanwhile
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return dir, nil
}

// tree writes a directory and remembers what it wrote, for the digest. After
// the first error it does nothing more.
type tree struct {
	dir  string // "": it is only remembered
	hash hash.Hash
	err  error
}

func newTree(dir string) *tree { return &tree{dir: dir, hash: sha256.New()} }

func (t *tree) digest() string { return hex.EncodeToString(t.hash.Sum(nil)[:8]) }

// add runs write for a path that is new, with its parents made.
func (t *tree) add(kind, path, content string, mode fs.FileMode, write func(full string) error) {
	if t.err != nil {
		return
	}
	fmt.Fprintf(t.hash, "%s %q %v %x\n", kind, path, mode, sha256.Sum256([]byte(content)))
	if t.dir == "" {
		return
	}
	full := filepath.Join(t.dir, path)
	if t.err = os.MkdirAll(filepath.Dir(full), 0o755); t.err == nil {
		t.err = write(full)
	}
}

func (t *tree) file(path, content string, mode fs.FileMode) {
	t.add("file", path, content, mode, func(full string) error {
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			return err
		}
		return os.Chmod(full, mode) // also when the umask is strict
	})
}

func (t *tree) link(path, target string) {
	t.add("link", path, target, 0, func(full string) error { return os.Symlink(target, full) })
}

// directory makes a directory that belongs to owner, who is their own group.
func (t *tree) directory(path string, mode fs.FileMode, owner int) {
	t.add("directory", path, fmt.Sprint(owner), mode, func(full string) error {
		if err := os.MkdirAll(full, 0o755); err != nil {
			return err
		}
		if err := os.Chown(full, owner, owner); err != nil {
			return err
		}
		return os.Chmod(full, mode)
	})
}

func (t *tree) owner(path string, owner int) {
	t.add("owner", path, fmt.Sprint(owner), 0, func(full string) error { return os.Lchown(full, owner, owner) })
}

// hostDirectories makes the places of /usr and of what belongs to it: links
// where the host has links into /usr, else directories to bind.
func (t *tree) hostDirectories() []Bind {
	t.directory("usr", 0o755, 0)
	binds := []Bind{{Source: "/usr", Target: "usr"}}
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		info, err := os.Lstat("/" + name)
		switch {
		case err != nil: // not every architecture has them all
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink("/" + name)
			if err != nil {
				t.err = errors.Join(t.err, err)
				return nil
			}
			t.link(name, target)
		case info.IsDir():
			t.directory(name, 0o755, 0)
			binds = append(binds, Bind{Source: "/" + name, Target: name})
		}
	}
	return binds
}

// maxCopied bounds one file that is copied from the host's /etc; the largest
// that belongs there is the bundle of certificates, about 200 KiB.
const maxCopied = 4 << 20

// copyEtc copies what pattern (a glob below /etc) names, directories with all
// below them: links, and regular files that everybody may read.
func (t *tree) copyEtc(pattern string) {
	matches, err := filepath.Glob("/etc/" + pattern)
	if err != nil {
		t.err = errors.Join(t.err, err)
		return
	}
	for _, match := range matches {
		t.err = errors.Join(t.err, filepath.WalkDir(match, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return nil // gone in the meantime, or not ours to read
			}
			info, err := entry.Info()
			if err != nil {
				return nil
			}
			name := strings.TrimPrefix(path, "/")
			switch {
			case info.Mode()&fs.ModeSymlink != 0:
				if target, err := os.Readlink(path); err == nil {
					t.link(name, target)
				}
			case info.Mode().IsRegular() && info.Mode()&0o004 != 0 && info.Size() <= maxCopied:
				if content, err := os.ReadFile(path); err == nil {
					t.file(name, string(content), info.Mode().Perm())
				}
			}
			return t.err
		}))
	}
}

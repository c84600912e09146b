package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"cube/build"
)

// entry is a file of an archive: where it is in the directory, and what the
// archive calls it.
type entry struct{ name, as string }

// maxLinks is how many links in a row are followed, as Linux does.
const maxLinks = 40

var errNoFile = errors.New("there is no such file in the directory, or .dockerignore leaves it out")

// find lists what a step copies, as docker has it: a file, what is in a directory,
// or both of all that a pattern stands for, into one directory. A link that the
// step names is followed, and those in directories stay links.
func (d *Directory) find(step *build.Step) ([]entry, error) {
	source, to := filepath.ToSlash(step.Args[0]), step.Args[1]
	if up := path.Clean(source); up == ".." || strings.HasPrefix(up, "../") {
		return nil, errors.New("it is outside of the directory: copy what is needed into it first")
	}
	clean := inside(source)
	if !strings.ContainsAny(clean, `*?[\`) {
		return d.tree(clean, clean)
	}
	matches, err := fs.Glob(d.root.FS(), clean)
	if err != nil {
		return nil, fmt.Errorf("it is no pattern: %w", err)
	}
	matches = slices.DeleteFunc(matches, func(m string) bool {
		ignored, err := d.ignored.MatchesOrParentMatches(m)
		return err == nil && ignored && !d.ignored.Exclusions()
	})
	if len(matches) == 1 && build.CopySource(matches[0]) == matches[0] {
		step.Args = slices.Clone(step.Args)
		step.Args[0] = matches[0]
		return d.tree(matches[0], matches[0])
	}
	if base := path.Base(to); len(matches) > 0 && !strings.HasSuffix(to, "/") && base != "." && base != ".." {
		return nil, fmt.Errorf("it stands for %d files, and they need a directory, which ends with '/': %s/", len(matches), to)
	}
	into := inside(build.CopySource(source))
	var all []entry
	for _, m := range matches {
		as := into
		if target, err := d.follow(m); err != nil {
			return nil, err
		} else if info, err := d.root.Stat(target); err == nil && !info.IsDir() {
			as = path.Join(into, path.Base(m))
		}
		entries, err := d.tree(m, as)
		if err != nil && !errors.Is(err, errNoFile) {
			return nil, err
		}
		all = append(all, entries...)
	}
	if len(all) == 0 {
		return nil, errNoFile
	}
	return all, nil
}

// inside is a path below the directory, "." for itself.
func inside(name string) string {
	if clean := strings.TrimPrefix(path.Clean("/"+name), "/"); clean != "" {
		return clean
	}
	return "."
}

// follow returns what a link leads to, or the file itself.
func (d *Directory) follow(name string) (string, error) {
	for range maxLinks {
		info, err := d.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return "", errNoFile
		}
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return name, err
		}
		target, err := d.root.Readlink(name)
		if err != nil {
			return "", err
		}
		next := path.Join(path.Dir(name), filepath.ToSlash(target))
		if path.IsAbs(target) || next == ".." || strings.HasPrefix(next, "../") {
			return "", fmt.Errorf("%s is a link to %s, which is outside of the directory: copy what is needed into it first", name, target)
		}
		name = next
	}
	return "", fmt.Errorf("%s is a link that leads nowhere", name)
}

// tree lists a file, or a directory and all that is in it, under another name.
func (d *Directory) tree(name, as string) ([]entry, error) {
	ignored := func(name string) (bool, error) {
		if name == "." {
			return false, nil
		}
		return d.ignored.MatchesOrParentMatches(name)
	}
	top, err := d.follow(name)
	if err != nil {
		return nil, err
	}
	if name != top {
		// By the name that the step has for it.
		if skip, err := ignored(name); err != nil || skip {
			return nil, errors.Join(err, errNoFile)
		}
	}
	var all []entry
	err = fs.WalkDir(d.root.FS(), top, func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		skip, err := ignored(at)
		if err != nil {
			return err
		}
		if skip {
			if e.IsDir() && !d.ignored.Exclusions() {
				return fs.SkipDir
			}
			return nil
		}
		below := strings.TrimPrefix(at, top)
		if top == "." {
			below = at
		}
		all = append(all, entry{at, path.Join(as, below)})
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(all) == 0 {
		return nil, errNoFile
	}
	return all, err
}

package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
)

// testFiles lists the files below root whose names match both patterns.
func testFiles(root, pattern, narrower string) ([]string, error) {
	wide, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	narrow, err := regexp.Compile(narrower)
	if err != nil {
		return nil, fmt.Errorf("-files: %w", err)
	}
	var files []string
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		if wide.MatchString(relative) && narrow.MatchString(relative) {
			files = append(files, relative)
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no test file in %s fits", root)
	}
	return files, err
}

// tail is the end of a program's output, for an error.
func tail(out []byte) []byte { return out[max(0, len(out)-4000):] }

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// stamp is the file that says that an installation is complete, and of what.
const stamp = "installed.txt"

// checkout puts paths of a repository at a tag into dir, and tells whether that
// was needed: a finished installation of the same is kept.
func checkout(ctx context.Context, repository, tag, dir, of string, paths ...string) (fresh bool, err error) {
	if repository == "" {
		return false, errors.New("say where the repository is: -e2b, -infra and -interpreter")
	}
	if have, err := os.ReadFile(filepath.Join(dir, stamp)); err == nil && string(have) == of {
		return false, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	archive := filepath.Join(dir, "checkout.tar")
	if err := do(ctx, dir, "git", append([]string{"--git-dir", repository, "archive", "-o", archive, tag}, paths...)...); err != nil {
		return false, err
	}
	if err := do(ctx, dir, "tar", "-xf", archive); err != nil {
		return false, err
	}
	return true, os.Remove(archive)
}

// installed marks an installation as complete.
func installed(dir, of string) error {
	return os.WriteFile(filepath.Join(dir, stamp), []byte(of), 0o644)
}

// do runs a program and returns its output as the error if it fails.
func do(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return nil
}

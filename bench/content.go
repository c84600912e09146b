package main

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// What is built, and the size of the file systems for it.
const (
	contentFiles   = 50_000
	contentBytes   = 1 << 30
	filesystemSize = 8 << 30
)

// content is a root file system: a directory rootfs, and the same as rootfs.tar.
type content struct{ dir, archive string }

// writeContent writes files of sizes as they are found on disks, half of them text,
// and a program that ends at once.
func writeContent(ctx context.Context, dir string) (content, error) {
	c := content{filepath.Join(dir, "content"), filepath.Join(dir, "content", "rootfs.tar")}
	root := filepath.Join(c.dir, "rootfs")
	bin := filepath.Join(root, "usr", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return content{}, err
	}
	r := rand.New(rand.NewPCG(1, 2)) // the same ones each time
	sizes := make([]float64, contentFiles)
	sum := 0.0
	for i := range sizes {
		sizes[i] = math.Exp(8.5 + 1.6*r.NormFloat64())
		sum += sizes[i]
	}
	for i, size := range sizes {
		name := filepath.Join(root, "content", fmt.Sprintf("d%02d/e%02d/f%d", i%40, i/40%25, i/1000%5), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return content{}, err
		}
		if err := os.WriteFile(name, block(r, int(size*contentBytes/sum), i%2 == 0), 0o644); err != nil {
			return content{}, err
		}
	}
	program := filepath.Join(dir, "true.go")
	if err := os.WriteFile(program, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return content{}, err
	}
	compile := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", filepath.Join(bin, "true"), program)
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	for _, cmd := range []*exec.Cmd{compile, exec.CommandContext(ctx, "tar", "-C", root, "-cf", c.archive, "usr", "content")} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return content{}, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
	}
	return c, nil
}

// block is text, of words, or what cannot be compressed.
func block(r *rand.Rand, size int, text bool) []byte {
	b := make([]byte, 0, size+8)
	for len(b) < size {
		n := r.Uint64()
		if text {
			b = fmt.Appendf(b, "%03x ", n&0xfff)
			continue
		}
		b = append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24), byte(n>>32), byte(n>>40), byte(n>>48), byte(n>>56))
	}
	return b[:size]
}

// onNewFilesystem does something on an ext4 that is made for it, in a file below
// dir.
func onNewFilesystem(ctx context.Context, dir string, do func(at string) error) error {
	image, at := filepath.Join(dir, "filesystem"), filepath.Join(dir, "mounted")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	defer os.Remove(image)
	if err := os.Truncate(image, filesystemSize); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image},
		{"mount", "-o", "loop", image, at},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", args, err, out)
		}
	}
	defer func() { _ = unix.Unmount(at, unix.MNT_DETACH) }()
	return do(at)
}

// usedBytes is what files below a directory take.
func usedBytes(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it went away
		}
		if info, err := entry.Info(); err == nil {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				total += stat.Blocks * 512
			}
		}
		return nil
	})
	return total
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"cube"
	"cube/build"
	"cube/build/remote"
)

// measureBuild times templates of 1 GB in 50,000 files, and beside them images of
// the same by buildah, each on a new file system of its own: ext4 is slow for
// minutes where files were removed. buildah is Debian's package of this name; where
// it is not installed, it is left out.
func measureBuild(ctx context.Context, _ *server, o options, add func(...result)) error {
	dir, err := os.MkdirTemp("", "cube-bench-build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := writeContent(ctx, dir)
	if err != nil {
		return fmt.Errorf("writing what is built: %w", err)
	}
	if err := onNewFilesystem(ctx, dir, func(at string) error { return measureTemplates(ctx, c, at, o, add) }); err != nil {
		return fmt.Errorf("templates: %w", err)
	}
	if _, err := exec.LookPath("buildah"); err != nil {
		add(result{Name: "buildah", Comment: "not installed"})
		return nil
	}
	if err := onNewFilesystem(ctx, dir, func(at string) error { return measureBuildah(ctx, c, at, add) }); err != nil {
		return fmt.Errorf("buildah: %w", err)
	}
	return nil
}

// measureTemplates builds by the API, as the command line does.
func measureTemplates(ctx context.Context, c content, at string, o options, add func(...result)) error {
	s, err := startServerIn(ctx, filepath.Join(at, "data"), "--sandbox-network", "10.215.0.0/16", "--sandbox-ipv6", "off", "--pool-size", "0")
	if err != nil {
		return err
	}
	defer s.stop()
	to := remote.Server{URL: s.url, Key: "e2b_0000000000000000000000000000000000000000"}
	imported := remote.Template{Name: "imported", FromArchive: c.archive}
	copied, done, err := c.copying()
	if err != nil {
		return err
	}
	defer done()
	for _, row := range []struct {
		name     string
		template func() (remote.Template, error)
	}{
		{"import", func() (remote.Template, error) { return imported, nil }},
		{"COPY", copied},
	} {
		before := usedBytes(at)
		for _, again := range []string{"", ", again"} {
			began := time.Now()
			t, err := row.template()
			if err != nil {
				return err
			}
			if _, err := to.Build(ctx, t, func(cube.LogEntry) {}); err != nil {
				return err
			}
			add(seconds("template of 1 GB by "+row.name+again, time.Since(began)))
			if again == "" {
				unix.Sync()
				add(megabytes("  on the disk, of it the upload", usedBytes(at)-before, usedBytes(filepath.Join(at, "data", "uploads"))))
			}
		}
	}
	var starts []time.Duration
	for i := range max(o.n/5, 10) {
		began := time.Now()
		id, _, err := s.createFrom("imported")
		if err != nil {
			return err
		}
		took := time.Since(began)
		if err := s.kill(id); err != nil {
			return err
		}
		if i == 0 {
			add(milliseconds("ready template to ready sandbox, the first", []time.Duration{took}, 0))
			continue
		}
		starts = append(starts, took)
	}
	add(milliseconds("ready template to ready sandbox", starts, 0))
	return nil
}

// measureBuildah builds the same as an image of one layer.
func measureBuildah(ctx context.Context, c content, at string, add func(...result)) error {
	buildah := func(args ...string) error {
		program := []string{"--root", filepath.Join(at, "storage"), "--runroot", filepath.Join(at, "run"), "--storage-driver", "overlay"}
		cmd := exec.CommandContext(ctx, "buildah", append(program, args...)...)
		cmd.Env = append(os.Environ(), "BUILDAH_ISOLATION=chroot", "TMPDIR="+at)
		if out, err := cmd.CombinedOutput(); err != nil {
			return errors.Join(err, errors.New(string(out)))
		}
		return nil
	}
	for _, row := range []struct{ name, dockerfile string }{
		{"ADD of the archive", "FROM scratch\nADD rootfs.tar /\n"},
		{"COPY", "FROM scratch\nCOPY rootfs /\n"},
	} {
		file := filepath.Join(c.dir, "Dockerfile")
		if err := os.WriteFile(file, []byte(row.dockerfile), 0o600); err != nil {
			return err
		}
		before := usedBytes(at)
		for _, again := range []string{"", ", again"} {
			began := time.Now()
			if err := buildah("bud", "--layers", "-t", "content", "-f", file, c.dir); err != nil {
				return err
			}
			add(seconds("buildah, "+row.name+again, time.Since(began)))
			if again == "" {
				unix.Sync()
				add(megabytes("  on the disk", usedBytes(at)-before, 0))
			}
		}
	}
	var starts []time.Duration
	for i := range 5 {
		name := fmt.Sprintf("started%d", i)
		began := time.Now()
		if err := buildah("from", "--name", name, "localhost/content"); err != nil {
			return err
		}
		if err := buildah("run", name, "/usr/bin/true"); err != nil {
			return err
		}
		starts = append(starts, time.Since(began))
		if err := buildah("rm", name); err != nil {
			return err
		}
	}
	add(milliseconds("buildah, from and run true", starts, 0))
	return nil
}

func seconds(name string, took time.Duration) result {
	return result{Name: name, N: 1, P50: float64(took.Milliseconds()) / 1000, Unit: "s"}
}

// megabytes is a figure, and one that is a part of it.
func megabytes(name string, all, part int64) result {
	r := result{Name: name, N: 1, P50: float64(all >> 20), Unit: "MiB"}
	if part > 0 {
		r.Comment = fmt.Sprintf("%d MiB", part>>20)
	}
	return r
}

// copying returns what builds a template by a COPY of the files, and what ends it.
func (c content) copying() (func() (remote.Template, error), func(), error) {
	dir, err := remote.OpenDirectory(c.dir)
	if err != nil {
		return nil, nil, err
	}
	return func() (remote.Template, error) {
		t := remote.Template{Name: "copied", FromTemplate: "base", MemoryMB: 1024, Steps: []build.Step{{Type: "COPY", Args: []string{"rootfs/content", "/content/", "", ""}}}}
		files, err := dir.Pack(t.Steps)
		t.Files = files
		return t, err
	}, func() { _ = dir.Close() }, nil
}

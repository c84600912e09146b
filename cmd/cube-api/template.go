package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"cube"
	"cube/build"
	"cube/build/dockerfile"
	"cube/build/remote"
)

// templateCommand makes templates on a server that runs.
type templateCommand struct {
	Build  templateBuildCommand  `cmd:"" help:"Build a template from a directory with an e2b.Dockerfile or a Dockerfile."`
	Import templateImportCommand `cmd:"" help:"Make a template from an image's archive ('docker save', an OCI layout, a root file system), without a registry."`
}

// templateServer is where, and what the template gets.
type templateServer struct {
	URL      string `name:"url" env:"E2B_API_URL" default:"http://127.0.0.1:3000" placeholder:"URL" help:"Address of the server's API."`
	Key      string `name:"api-key" env:"E2B_API_KEY" default:"e2b_0000000000000000000000000000000000000000" placeholder:"KEY" help:"What the server takes as X-API-Key."`
	CPUs     int    `name:"cpus" placeholder:"N" help:"Processors of its sandboxes."`
	Memory   int    `name:"memory" placeholder:"MIB" help:"Memory of its sandboxes."`
	StartCmd string `name:"start-cmd" short:"c" placeholder:"COMMAND" help:"What runs when its sandboxes begin, and goes on in them: they are kept with it running."`
	ReadyCmd string `name:"ready-cmd" placeholder:"COMMAND" help:"Tried until it succeeds: --start-cmd is ready then."`
	Quiet    bool   `short:"q" help:"Print the template's id alone."`
}

// run builds and prints the log.
func (s templateServer) run(ctx context.Context, t remote.Template, out output) error {
	at, err := url.Parse(s.URL)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return fmt.Errorf("--url %q: write an address such as http://127.0.0.1:3000", s.URL)
	}
	t.CPUs, t.MemoryMB = s.CPUs, s.Memory
	if s.StartCmd != "" {
		t.StartCmd = s.StartCmd
	}
	t.ReadyCmd = s.ReadyCmd
	server := remote.Server{URL: strings.TrimSuffix(s.URL, "/"), Key: s.Key}
	built, err := server.Build(ctx, t, func(e cube.LogEntry) {
		if !s.Quiet {
			printEntry(out.stderr, e)
		}
	})
	if err != nil {
		return fmt.Errorf("%s is not built: %w", t.Name, err)
	}
	_, err = fmt.Fprintln(out.stdout, built.TemplateID)
	return err
}

func printEntry(w io.Writer, e cube.LogEntry) {
	fmt.Fprintf(w, "%s %-5s %s\n", e.Time.Local().Format("15:04:05"), e.Level, strings.TrimRight(e.Message, "\n"))
}

type templateBuildCommand struct {
	templateServer
	Dir          string            `arg:"" help:"The directory. What is copied comes out of it, but for what its .dockerignore names."`
	Name         string            `placeholder:"NAME" help:"Name of the template; without it, the directory's."`
	Dockerfile   string            `placeholder:"FILE" help:"The Dockerfile, in the directory; without it, e2b.Dockerfile or Dockerfile."`
	FromTemplate string            `name:"from-template" placeholder:"NAME" help:"Begin with this template in place of the Dockerfile's FROM."`
	FromArchive  string            `name:"from-archive" placeholder:"FILE" help:"Begin with an image's archive in place of the Dockerfile's FROM."`
	BuildArg     map[string]string `name:"build-arg" placeholder:"NAME=VALUE" help:"Value of an ARG. Everybody who uses the template can read it."`
	NoCache      bool              `name:"no-cache" help:"Do every step, whatever was built before."`
}

// Run is called by kong.
func (c templateBuildCommand) Run(ctx context.Context, out output) (err error) {
	dir, err := remote.OpenDirectory(c.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	file, err := c.read(dir)
	if err != nil {
		return err
	}
	if c.Name == "" {
		absolute, err := filepath.Abs(c.Dir)
		if err != nil {
			return err
		}
		c.Name = strings.ToLower(filepath.Base(absolute))
	}
	t := remote.Template{Name: c.Name, From: file.From, StartCmd: file.Start, Force: c.NoCache}
	if c.FromTemplate != "" && c.FromArchive != "" {
		return errors.New("--from-template and --from-archive: write one of them")
	}
	if c.FromTemplate != "" || c.FromArchive != "" {
		t.From, t.FromTemplate, t.FromArchive = "", c.FromTemplate, c.FromArchive
	}
	for _, s := range file.Steps {
		t.Steps = append(t.Steps, build.Step{Type: s.Type, Args: s.Args})
	}
	if t.Files, err = dir.Pack(t.Steps); err == nil {
		err = c.run(ctx, t, out)
	}
	// Steps that no line says are docker's and E2B's own.
	if e, ok := errors.AsType[*remote.StepError](err); ok && e.Step < len(file.Steps) && file.Steps[e.Step].Line > 0 {
		return fmt.Errorf("line %d: %w", file.Steps[e.Step].Line, err)
	}
	return err
}

// read finds and reads the Dockerfile.
func (c templateBuildCommand) read(dir *remote.Directory) (dockerfile.File, error) {
	names := []string{"e2b.Dockerfile", "Dockerfile"}
	if c.Dockerfile != "" {
		names = []string{c.Dockerfile}
	}
	for _, name := range names {
		text, err := dir.Read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return dockerfile.File{}, err
		}
		file, err := dockerfile.Parse(text, c.BuildArg)
		if err != nil {
			return dockerfile.File{}, fmt.Errorf("%s: %w", filepath.Join(c.Dir, name), err)
		}
		return file, nil
	}
	return dockerfile.File{}, fmt.Errorf("there is no %s in %s", strings.Join(names, " and no "), c.Dir)
}

type templateImportCommand struct {
	templateServer
	Name string `arg:"" help:"Name of the template."`
	File string `arg:"" help:"The archive, with or without gzip or zstd."`
}

// Run is called by kong.
func (c templateImportCommand) Run(ctx context.Context, out output) error {
	if info, err := os.Stat(c.File); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file: give what 'docker save -o FILE IMAGE' writes", c.File)
	}
	return c.run(ctx, remote.Template{Name: c.Name, FromArchive: c.File}, out)
}

// Command compat runs E2B's own test suites, unmodified, against bin/cube-api
// and writes what came out into docs/compatibility.md.
//
// The suites come from bare clones of E2B's repositories, and the SDKs from
// their registries, into a scratch directory. Nothing of theirs is kept here,
// and nothing here may make a test pass that a user's program would not: a test
// that does not pass is a failure, or stands in reasons.tsv with the reason why
// it does not count.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	e2b, infra, interpreter string // bare git directories
	scratch                 string
	server                  string // the binary
	only                    []string
	rootfs                  string
	files                   string // regular expression: run these test files alone
	workers                 int
	again                   bool
	write                   bool
}

func main() {
	var o options
	flag.StringVar(&o.e2b, "e2b", "", "bare git `directory` of E2B's SDKs")
	flag.StringVar(&o.infra, "infra", "", "bare git `directory` of E2B's infra")
	flag.StringVar(&o.interpreter, "interpreter", "", "bare git `directory` of E2B's code-interpreter")
	flag.StringVar(&o.scratch, "scratch", filepath.Join(os.TempDir(), "cube-compat"), "`directory` for checkouts and their dependencies, kept for the next run")
	flag.StringVar(&o.server, "server", "bin/cube-api", "the server to test")
	flag.StringVar(&o.rootfs, "rootfs", "", "tar `file` of a root file system that images are made of, under the names that the suites ask for: 'SUITE=bookworm templates/debian FILE bash ca-certificates curl dnsutils git gnupg iputils-ping openssh-client procps python3 sudo util-linux', for the internet that they run on has no packages; \"\" for no registry")
	only := flag.String("only", "", "run these suites alone, such as js@2.51.0,infra, and keep the other rows")
	flag.StringVar(&o.files, "files", "", "`regexp`: run these test files alone; nothing is written then")
	flag.IntVar(&o.workers, "workers", 2, "test files at once")
	flag.BoolVar(&o.again, "again", false, "count the results of the last runs again, with the reasons as they are now")
	flag.BoolVar(&o.write, "write", false, "write compat/record.json and docs/compatibility.md")
	flag.Parse()
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "compat: "+err.Error())
		os.Exit(1)
	}
}

// run tests one suite after the other; a row is written as soon as it is known.
func run(ctx context.Context, o options) error {
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	if o.write && o.files != "" {
		return errors.New("-files runs a part of a suite: leave -write away")
	}
	table, err := readReasons()
	if err != nil {
		return err
	}
	if o.scratch, err = filepath.Abs(o.scratch); err != nil {
		return err
	}
	var failed []error
	for _, s := range chosen {
		row, err := measure(ctx, o, s, table)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name(), err))
			continue
		}
		fmt.Printf("%s: %d passed, %d failed, %d do not count\n", s.name(), row.Passed, len(row.Failed), len(row.NotCounted))
		for _, name := range row.Failed {
			fmt.Println("  failed: " + name)
		}
		if o.write {
			if err := write(row); err != nil {
				return err
			}
		}
	}
	return errors.Join(failed...)
}

// measured is one run of a suite, as it is kept in the scratch directory.
type measured struct {
	Date, Commit, Machine string
	Results               []result
}

// measure runs one suite against a server of its own, and keeps what came out.
func measure(ctx context.Context, o options, s suite, table reasons) (row, error) {
	dir := filepath.Join(o.scratch, strings.ReplaceAll(s.name(), "@", "-"))
	kept := filepath.Join(dir, "measured.json")
	var m measured
	if o.again {
		data, err := os.ReadFile(kept)
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil {
			return row{}, fmt.Errorf("results of the last run: %w", err)
		}
		return count(s, m, table), nil
	}
	if err := s.kind.install(ctx, o, s, dir); err != nil {
		return row{}, fmt.Errorf("installing: %w", err)
	}
	m.Date, m.Commit, m.Machine = time.Now().UTC().Format(time.DateOnly), commit(ctx, o.server), machine()
	world, err := newWorld(ctx, o.server, dir, o.rootfs)
	if err != nil {
		return row{}, err
	}
	defer world.close()
	if m.Results, err = s.kind.run(ctx, o, s, dir, world); err != nil {
		return row{}, err
	}
	if err := ctx.Err(); err != nil {
		return row{}, fmt.Errorf("it was not run to its end: %w", err)
	}
	if o.files == "" {
		data, err := json.Marshal(m)
		if err != nil {
			return row{}, err
		}
		if err := os.WriteFile(kept, data, 0o644); err != nil {
			return row{}, err
		}
	}
	return count(s, m, table), nil
}

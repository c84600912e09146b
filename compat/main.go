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
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// options are what the command line says.
type options struct {
	e2b, infra string // bare git directories
	scratch    string
	server     string // the binary
	only       []string
	files      string // regular expression: run these test files alone
	workers    int
	write      bool
}

func main() {
	var o options
	flag.StringVar(&o.e2b, "e2b", "", "bare git `directory` of E2B's SDKs")
	flag.StringVar(&o.infra, "infra", "", "bare git `directory` of E2B's infra")
	flag.StringVar(&o.scratch, "scratch", filepath.Join(os.TempDir(), "cube-compat"), "`directory` for checkouts and their dependencies, kept for the next run")
	flag.StringVar(&o.server, "server", "bin/cube-api", "the server to test")
	only := flag.String("only", "", "run these suites alone, such as js@2.51.0,infra, and keep the other rows")
	flag.StringVar(&o.files, "files", "", "`regexp`: run these test files alone; nothing is written then")
	flag.IntVar(&o.workers, "workers", 2, "test files at once")
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

// measure runs one suite against a server of its own.
func measure(ctx context.Context, o options, s suite, table reasons) (row, error) {
	dir := filepath.Join(o.scratch, strings.ReplaceAll(s.name(), "@", "-"))
	if err := s.kind.install(ctx, o, s, dir); err != nil {
		return row{}, fmt.Errorf("installing: %w", err)
	}
	world, err := newWorld(ctx, o.server, dir)
	if err != nil {
		return row{}, err
	}
	defer world.close()
	results, err := s.kind.run(ctx, o, s, dir, world)
	if err != nil {
		return row{}, err
	}
	return count(s, results, table), nil
}

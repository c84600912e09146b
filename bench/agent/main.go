// Command agent measures the agent of this project beside another that speaks
// E2B's protocol, E2B's own for example: both as ordinary processes of one
// sandbox, reached the same way, by turns, in one run.
//
// It starts bin/cube-api itself, on loopback with a data directory of its own,
// and needs root. It must ask both agents for the same, with the same code, and
// print nothing that was not checked to be what was asked for.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.envd, "envd", "", "the other agent: a Linux program that takes the arguments of E2B's envd")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each agent has its turn")
	flag.IntVar(&o.commands, "commands", 1000, "commands that run at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

type options struct {
	envd     string
	rounds   int
	commands int
}

// rest is longer than Go's runtime takes to collect what an idle program no
// longer needs, two minutes, and to give some of it back.
const rest = 150 * time.Second

func run(ctx context.Context, o options) error {
	if o.envd == "" {
		return fmt.Errorf("give the other agent with -envd: see bench/agent/README.md")
	}
	s, err := startServer(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	home, err := s.createSandbox(ctx)
	if err != nil {
		return err
	}
	defer home.kill()
	ours, err := home.launch(ctx, program{
		name: "ours", file: "engine/gvisor/embedded/envd", port: "49985",
		args: []string{"-listen", ":49985", "-listen-tunnel", ":49986"},
	})
	if err != nil {
		return err
	}
	theirs, err := home.launch(ctx, program{
		name: "theirs", file: o.envd, port: "49987",
		args: []string{"-isnotfc", "-no-cgroups", "-port", "49987"},
	})
	if err != nil {
		return err
	}
	r := newRecord()
	pair := []*agent{ours, theirs}
	if err := home.recordMemory(ctx, r, pair, "memory, idle"); err != nil {
		return err
	}
	if err := prepare(ctx, home); err != nil {
		return err
	}
	for round := range o.rounds + 1 {
		into := r
		if round == 0 {
			into = newRecord() // the first round warms up, and does not count
		}
		for _, m := range measurements(home, o) {
			if err := takeTurns(ctx, home, into, m, pair, round%2 == 1); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round, o.rounds)
	}
	if err := home.recordMemory(ctx, r, pair, "memory, after all"); err != nil {
		return err
	}
	select {
	case <-time.After(rest):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := home.recordMemory(ctx, r, pair, "memory, later"); err != nil {
		return err
	}
	r.print(os.Stdout)
	return nil
}

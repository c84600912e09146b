package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cube/bench/remote"
)

// benchCommand measures a server that runs, this one or another's.
type benchCommand struct {
	URL        string `name:"url" env:"E2B_API_URL" default:"http://127.0.0.1:3000" placeholder:"URL" help:"Address of the API: of this server or of any other that speaks E2B's."`
	SandboxURL string `name:"sandbox-url" env:"E2B_SANDBOX_URL" placeholder:"URL" help:"One address for all sandboxes; without it, each has a host name in the domain that the server says. Default: the API's where that is on this machine."`
	Key        string `name:"api-key" env:"E2B_API_KEY" default:"e2b_0000000000000000000000000000000000000000" placeholder:"KEY" help:"What the server takes as X-API-Key."`
	Template   string `default:"base" help:"Template of the sandboxes."`
	Command    string `default:"true" help:"What to run in each, twice."`
	N          int    `short:"n" default:"100" help:"How many sandboxes."`
	AtATime    int    `name:"at-a-time" default:"1" placeholder:"N" help:"How many of them at once."`
	JSON       bool   `name:"json" help:"Print the result as JSON, and nothing else."`
}

// redrawEvery is how often the live view changes.
const redrawEvery = 100 * time.Millisecond

// Run is called by kong.
func (c benchCommand) Run(ctx context.Context, out output) error {
	target, err := c.target()
	if err != nil {
		return err
	}
	live := !c.JSON && isTerminal(out.stdout)
	var drawn time.Time
	lines := 0
	look := func(p remote.Progress) {
		if live && time.Since(drawn) >= redrawEvery {
			lines = c.draw(out.stdout, p, lines)
			drawn = time.Now()
		}
	}
	p := remote.Run(ctx, target, c.N, c.AtATime, look)
	if c.JSON {
		err = c.printJSON(out.stdout, p)
	} else {
		c.draw(out.stdout, p, lines)
	}
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return errors.New("interrupted: what was created is killed")
	case p.Failed > 0:
		return fmt.Errorf("%d of %d failed, the last one: %w", p.Failed, p.Finished, p.LastError)
	}
	return nil
}

func (c benchCommand) target() (remote.Target, error) {
	api, err := url.Parse(c.URL)
	if err != nil || api.Host == "" || api.Scheme != "http" && api.Scheme != "https" {
		return remote.Target{}, fmt.Errorf("--url %q: write an address such as http://127.0.0.1:3000", c.URL)
	}
	if c.N < 1 || c.AtATime < 1 {
		return remote.Target{}, errors.New("-n and --at-a-time: write 1 or more")
	}
	sandboxes := strings.TrimSuffix(c.SandboxURL, "/")
	if host := api.Hostname(); sandboxes == "" && (host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1") {
		sandboxes = strings.TrimSuffix(c.URL, "/")
	}
	return remote.Target{
		APIURL: strings.TrimSuffix(c.URL, "/"), SandboxURL: sandboxes,
		Key: c.Key, Template: c.Template, Command: c.Command,
		Client: &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			// The client's own connections must not be what is measured.
			MaxIdleConnsPerHost: c.AtATime,
			ForceAttemptHTTP2:   true,
		}},
	}, nil
}

// draw writes over the last lines of its own and returns how many it wrote.
func (c benchCommand) draw(w io.Writer, p remote.Progress, last int) int {
	var b strings.Builder
	if last > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", last)
	}
	const width = 40
	full := width * p.Finished / c.N
	fmt.Fprintf(&b, "%s%s  %d of %d, %d at a time, %.1f a second", strings.Repeat("█", full), strings.Repeat("░", width-full),
		p.Finished, c.N, c.AtATime, float64(p.Finished)/max(p.Elapsed.Seconds(), 1e-9))
	if p.Failed > 0 {
		fmt.Fprintf(&b, ", %d FAILED", p.Failed)
	}
	fmt.Fprintf(&b, "\n\n%-16s %6s %9s %9s %9s %9s\n", "milliseconds", "n", "p50", "p90", "p99", "most")
	for stage := range remote.Stages {
		times := p.Times[stage]
		fmt.Fprintf(&b, "%-16s %6d", stage, len(times))
		for _, share := range []float64{.5, .9, .99, 1} {
			fmt.Fprintf(&b, " %9.1f", milliseconds(remote.Percentile(times, share)))
		}
		fmt.Fprintf(&b, "  %s\n", histogram(times))
	}
	_, _ = io.WriteString(w, b.String())
	return strings.Count(b.String(), "\n")
}

// histogram shows how times are spread, on a logarithmic scale from 1 ms to 10 s,
// four bars a decade.
func histogram(times []time.Duration) string {
	const bars, first = 16, float64(time.Millisecond)
	var counts [bars]int
	most := 0
	for _, t := range times {
		bar, edge := 0, first
		for float64(t) > edge && bar < bars-1 {
			edge *= 1.7782794 // the fourth root of 10
			bar++
		}
		counts[bar]++
		most = max(most, counts[bar])
	}
	if most == 0 {
		return ""
	}
	levels := []rune(" ▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, n := range counts {
		level := (n*(len(levels)-1) + most - 1) / most
		b.WriteRune(levels[level])
	}
	return "1 ms▕" + b.String() + "▏10 s"
}

func (c benchCommand) printJSON(w io.Writer, p remote.Progress) error {
	type row struct {
		Stage              string
		N                  int
		P50, P90, P99, Max float64 // milliseconds
	}
	rows := []row{}
	for stage := range remote.Stages {
		t := p.Times[stage]
		rows = append(rows, row{
			stage.String(), len(t), milliseconds(remote.Percentile(t, .5)), milliseconds(remote.Percentile(t, .9)),
			milliseconds(remote.Percentile(t, .99)), milliseconds(remote.Percentile(t, 1)),
		})
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(map[string]any{
		"AtATime": c.AtATime, "Failed": p.Failed, "PerSecond": float64(p.Finished) / max(p.Elapsed.Seconds(), 1e-9), "Stages": rows,
	})
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// isTerminal tells whether somebody looks on.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Command cube-api is the Cube API Server.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"cube/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cube-api: "+err.Error())
		os.Exit(1)
	}
}

// commands are what cube-api can do.
type commands struct {
	app.Settings `embed:""`
	Config       kong.ConfigFlag `env:"CUBE_CONFIG" placeholder:"FILE" group:"server" help:"File of settings: one JSON object whose names are those of the flags. A flag and a variable beat it."`

	Serve    serveCommand    `cmd:"" default:"withargs" help:"Run the server (this is what cube-api does without a command)."`
	Doctor   doctorCommand   `cmd:"" help:"Say whether this machine can run sandboxes, and what to do if not."`
	Keys     keysCommand     `cmd:"" help:"Make, list and revoke keys, for people without an auth service."`
	CA       caCommand       `cmd:"" name:"ca" help:"Print the root certificate of --tls=internal, or install it on this machine."`
	Audit    auditCommand    `cmd:"" help:"Read the log of who did what."`
	Bench    benchCommand    `cmd:"" help:"Measure a server that speaks E2B's API, this one or another, with a live view."`
	Template templateCommand `cmd:"" help:"Make templates: from a Dockerfile, or from an image's archive."`
	Version  versionCommand  `cmd:"" help:"Print the version."`
}

// output is where a command writes to.
type output struct{ stdout, stderr io.Writer }

// errHelp ends a run whose help was printed.
var errHelp = errors.New("help was asked for")

// run is the whole program: arguments in, an error out.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	// kong prints help and then calls an exit function, which must not return.
	defer func() {
		if r := recover(); r != nil && r != errHelp { //nolint:errorlint // our own value, never wrapped
			panic(r)
		}
	}()
	c, parsed, err := parse(args, stdout, stderr)
	if err != nil {
		return err
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(c.Settings, reread(args), output{stdout, stderr})
}

// reread reads the settings of a server that runs again.
func reread(args []string) app.Reread {
	return func() (app.Settings, error) {
		c, _, err := parse(args, io.Discard, io.Discard)
		if err != nil {
			return app.Settings{}, err
		}
		return c.Settings, nil
	}
}

// parse reads the arguments, the variables and the file of --config.
func parse(args []string, stdout, stderr io.Writer) (*commands, *kong.Context, error) {
	var c commands
	parser, err := kong.New(&c,
		kong.Name("cube-api"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Configuration(readConfigFile),
		kong.Exit(func(int) { panic(errHelp) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "server", Title: "Server:"},
			{Key: "auth", Title: "Who may do what (docs/authentication.md):"},
			{Key: "callback", Title: "Your service that decides:"},
			{Key: "sandboxes", Title: "Sandboxes:"},
			{Key: "templates", Title: "Templates (docs/templates.md):"},
			{Key: "log", Title: "Log:"},
		}),
	)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return nil, nil, fmt.Errorf("%w ('cube-api --help' lists what can be set)", err)
	}
	return &c, parsed, nil
}

const description = `Runs sandboxes for code that nobody has reviewed, behind the API of the E2B SDKs.

Examples:
  cube-api                                              on 127.0.0.1:3000, open to this machine
  cube-api --auth-callback-url https://auth.example/verify
  cube-api doctor                                       can this machine run sandboxes?

What the SDKs need to know, with --domain cube.localhost --tls internal on port 3000:
  export E2B_DOMAIN=cube.localhost:3000                 and trust what 'cube-api ca' prints

or without:
  export E2B_API_URL=http://127.0.0.1:3000 E2B_SANDBOX_URL=http://127.0.0.1:3000
  export E2B_API_KEY=e2b_0000                           whatever --auth-callback-url accepts`

type serveCommand struct{}

// Run is called by kong.
func (serveCommand) Run(ctx context.Context, s app.Settings, reread app.Reread, out output) error {
	return app.Run(ctx, s, reread, newLogger(out.stderr, s.LogLevel, s.LogFormat))
}

// newLogger is called with checked settings.
func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level))
	options := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

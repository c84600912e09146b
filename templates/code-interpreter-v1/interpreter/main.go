// Command interpreter is the server inside the template code-interpreter-v1: it
// keeps kernels, which are interpreters that remember what they ran, and speaks
// the protocol of E2B's code-interpreter packages on port 49999.
//
// It runs with the rights of the sandbox's user and protects nobody from
// anybody: whoever may ask it may run code. So it must hold no secret.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// port is where E2B's packages look for the server.
const port = 49999

func main() {
	listen := flag.String("listen", ":"+strconv.Itoa(port), "address to listen on")
	workdir := flag.String("workdir", "/home/user", "directory of contexts that ask for none")
	agent := flag.String("agent", "http://127.0.0.1:49983", "the sandbox's agent, which knows its environment; \"\" for none")
	supervised := flag.Bool("supervised", false, "serve; without it, a process that does is started, and again whenever it ends")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if !*supervised {
		supervise(ctx)
		return
	}
	if err := serve(ctx, *listen, *workdir, *agent); err != nil {
		slog.Error("the interpreter ends", "error", err)
		stop()
		os.Exit(1)
	}
}

// supervise keeps a serving process there: what users run can kill it, and the
// sandbox has no other supervisor.
func supervise(ctx context.Context) {
	for ctx.Err() == nil {
		child := exec.CommandContext(ctx, "/proc/self/exe", append(os.Args[1:], "-supervised")...)
		child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
		child.WaitDelay = 5 * time.Second
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
		err := child.Run()
		if ctx.Err() == nil {
			slog.Error("the interpreter ended, and is started again", "error", err)
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func serve(ctx context.Context, listen, workdir, agent string) error {
	contexts := newContexts(workdir, agent)
	defer contexts.close()
	// Both are there before anybody asks, and so in the template's memory.
	for _, language := range []string{"python", "javascript"} {
		if _, err := contexts.byLanguage(language); err != nil {
			return err
		}
	}
	server := &http.Server{Handler: routes(contexts), ReadHeaderTimeout: 30 * time.Second}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

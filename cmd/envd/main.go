// Command envd is the agent inside a sandbox, and its first process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cube/envd"
	"cube/envd/sudo"
	"cube/envd/tunnel"
)

func main() {
	if isSudo(os.Args[0], os.Getuid(), os.Geteuid()) {
		if err := sudo.Main(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "sudo:", err)
			os.Exit(1)
		}
		return
	}
	listen := flag.String("listen", ":"+strconv.Itoa(envd.Port), "address to listen on")
	listenTunnel := flag.String("listen-tunnel", ":"+strconv.Itoa(tunnel.Port), "address to listen on for connections to ports of the loopback addresses")
	notify := flag.Bool("notify", false, "write \"ready\" to standard output once listening; what is written there and to standard error later goes nowhere")
	pidsMax := flag.Int("pids-max", 0, "processes and threads in this sandbox, 0 for no limit")
	ownMachine := flag.Bool("own-machine", false, "let the settings change this machine's name, its hosts and whom it trusts")
	flag.Parse()
	if err := run(*listen, *listenTunnel, *notify, *pidsMax, *ownMachine); err != nil {
		fmt.Fprintln(os.Stderr, "envd:", err)
		os.Exit(1)
	}
}

// isSudo tells whether the binary was started as the stand-in for sudo, in a base
// made of a machine without it. With the rights of the set-user-ID bit it is
// nothing else, whatever name its caller gives it: an agent of root's that anybody
// has started would do what they say.
func isSudo(name string, uid, euid int) bool {
	return filepath.Base(name) == sudo.Name || uid != euid
}

func run(listen, listenTunnel string, notify bool, pidsMax int, ownMachine bool) error {
	if pidsMax > 0 {
		if err := limitProcesses(pidsMax); err != nil {
			return fmt.Errorf("limiting the processes: %w", err)
		}
	}
	syscall.Umask(0o022) // of what is uploaded, and of every process that is started
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	agent := envd.New(log)
	defer agent.Close()
	if ownMachine {
		agent.OwnMachine(func(name string) error { return unix.Sethostname([]byte(name)) })
	}
	server := &http.Server{
		Handler:           agent,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       640 * time.Second, // longer than the server's proxy keeps a connection
		Protocols:         new(http.Protocols),
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	tunnels, err := net.Listen("tcp", listenTunnel)
	if err != nil {
		return err
	}
	defer tunnels.Close()
	go func() { _ = tunnel.Serve(tunnels) }() // until run returns
	if notify {
		if err := sayReady(); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go giveBackMemory(ctx)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// sayReady tells the server that it can ask, and gives the pipes away: nobody
// reads from them any more.
func sayReady() error {
	if _, err := fmt.Println("ready"); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	return errors.Join(unix.Dup3(int(null.Fd()), 1, 0), unix.Dup3(int(null.Fd()), 2, 0))
}

// limitProcesses bounds the processes and threads in this process's control
// group (version 2), which is the sandbox's. Root inside may raise the bound
// again. Then the machine's own limit ends the sandbox instead of refusing it a
// process.
func limitProcesses(n int) error {
	line, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	path, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "0::")
	if !ok {
		return fmt.Errorf("no control group of version 2 in %q", line)
	}
	return os.WriteFile(filepath.Join("/sys/fs/cgroup", path, "pids.max"), []byte(strconv.Itoa(n)), 0o644)
}

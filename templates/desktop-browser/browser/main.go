// Command browser runs Chromium and lets others than this machine drive it by
// the DevTools protocol. It decides nothing about who may: whoever reaches its
// port does.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	port := flag.Int("port", 9222, "port to listen on")
	inner := flag.Int("inner-port", 9223, "Chromium's own port")
	program := flag.String("chromium", "chromium", "the program to run")
	check := flag.Bool("check", false, "say whether the browser answers on the port, by the exit code")
	flag.Parse()
	if *check {
		if err := answers(*port); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		keep(ctx, *program, *inner)
	}()
	server := &http.Server{Addr: net.JoinHostPort("", strconv.Itoa(*port)), Handler: newProxy(*inner), ReadHeaderTimeout: 30 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	err := server.ListenAndServe()
	stop()
	<-ended
	if err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// keep runs Chromium until ctx ends, again when it has died.
func keep(ctx context.Context, program string, port int) {
	for ctx.Err() == nil {
		began := time.Now()
		c := exec.CommandContext(ctx, program,
			"--headless=new", "--remote-debugging-port="+strconv.Itoa(port), "--remote-allow-origins=*",
			"--no-sandbox", // the machine around it is one
			"--disable-dev-shm-usage", "--disable-gpu", "--no-first-run", "--no-default-browser-check",
			"--disable-background-networking", "--disable-component-update", "--password-store=basic",
			"--user-data-dir="+profile(), "--window-size=1280,1024", "about:blank")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) } // its helpers too
		err := c.Run()
		if ctx.Err() != nil {
			return
		}
		fmt.Fprintf(os.Stderr, "browser: Chromium ended (%v); it is started again\n", err)
		select {
		case <-ctx.Done():
		case <-time.After(max(0, time.Second-time.Since(began))):
		}
	}
}

// profile is where Chromium keeps what it knows.
func profile() string {
	if dir, err := os.UserConfigDir(); err == nil {
		return dir + "/browser"
	}
	return "/tmp/browser"
}

// answers asks the one on this machine.
func answers(port int) error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/json/version", port))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

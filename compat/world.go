package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// domain is what the tests know the server by.
const domain = "cube.test"

// team is the one that their key is of; E2B's have such names.
const team = "00000000-0000-0000-0000-000000000001"

// world is a server with a data directory of its own, and around it what a user
// with a domain has: names that lead to it and a certificate that is trusted.
// All of it is on loopback.
type world struct {
	url    string // of the API, plain HTTP
	domain string // with the port
	key    string
	dir    string
	server *exec.Cmd
	// settings are more of the server's.
	settings []string
	log      *os.File
	closers  []io.Closer
}

var readyLine = regexp.MustCompile(`ready" url=(\S+)`)

// newWorld starts a server. Its log is left beside the suite's results.
func newWorld(ctx context.Context, binary, logs, rootfs string) (_ *world, err error) {
	dir, err := os.MkdirTemp("", "cube-compat-data")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.log, err = os.Create(filepath.Join(logs, "server.log")); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, binary, "keys", "create", "compat", "--team", team, "--data-dir", dir).Output()
	if err != nil {
		return nil, fmt.Errorf("making a key (is the server built? 'make build'): %w", err)
	}
	w.key = strings.TrimSpace(string(out))
	front, err := newFront(dir)
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, front)
	w.domain = domain + ":" + front.port()
	names, err := serveNames()
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, names)
	address := names.LocalAddr().(*net.UDPAddr).IP
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver "+address.String()+"\n"), 0o644); err != nil {
		return nil, err
	}
	if rootfs != "" {
		images, err := serveImages(ctx, rootfs)
		if err != nil {
			return nil, err
		}
		w.closers = append(w.closers, images)
		w.settings = append(w.settings, "--registry-mirror", "docker.io="+images.url())
	}
	// As this run's address is its own, so is the network that it decides on.
	if err := w.launch(ctx, binary, fmt.Sprintf("10.%d.0.0/16", 64+int(address[len(address)-1]))); err != nil {
		return nil, err
	}
	return w, front.serve(w.url)
}

// launch starts the server and returns once it takes requests.
func (w *world) launch(ctx context.Context, binary, network string) error {
	w.server = exec.CommandContext(ctx, binary, "--bind", "127.0.0.1:0", "--data-dir", w.dir, "--domain", w.domain, "--sandbox-network", network)
	w.server.Args = append(w.server.Args, w.settings...)
	w.server.Cancel = func() error { return w.server.Process.Signal(syscall.SIGTERM) }
	stderr, err := w.server.StderrPipe()
	if err != nil {
		return err
	}
	if err := w.server.Start(); err != nil {
		return err
	}
	ready := make(chan string, 1)
	go func() {
		defer close(ready)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			fmt.Fprintln(w.log, lines.Text())
			if match := readyLine.FindStringSubmatch(lines.Text()); match != nil {
				ready <- match[1]
			}
		}
	}()
	select {
	case w.url = <-ready:
	case <-time.After(time.Minute):
	}
	if w.url == "" {
		return errors.New("the server did not start: see " + w.log.Name())
	}
	return nil
}

// run runs a program of the tests where the domain's names and certificate are
// known. Its own failure is no error: tests that fail make it.
func (w *world) run(ctx context.Context, dir string, environment []string, program ...string) ([]byte, error) {
	// A mount namespace of its own has the two files that say so.
	const script = `mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/trusted.pem" "$2" && shift 2 && exec "$@"`
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, "sh", w.dir, systemTrust()}, program...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Dir = dir
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "E2B_") && !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Env = append(cmd.Env, "E2B_API_KEY="+w.key, "E2B_DOMAIN="+w.domain,
		"NODE_EXTRA_CA_CERTS="+filepath.Join(w.dir, "ca.pem"), "SSL_CERT_FILE="+systemTrust(), "REQUESTS_CA_BUNDLE="+systemTrust())
	cmd.Env = append(cmd.Env, environment...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		err = nil
	}
	return out, err
}

// close ends the sandboxes, the server and the rest.
func (w *world) close() {
	if w.server != nil && w.server.Process != nil {
		w.killAll()
		_ = w.server.Process.Signal(syscall.SIGTERM)
		_ = w.server.Wait()
	}
	for _, c := range w.closers {
		_ = c.Close()
	}
	if w.log != nil {
		_ = w.log.Close()
	}
	_ = os.RemoveAll(w.dir)
}

var sandboxID = regexp.MustCompile(`"sandboxID":"([a-z0-9]+)"`)

// killAll kills the sandboxes that tests left behind.
func (w *world) killAll() {
	for range 50 { // pages
		body, err := w.call(http.MethodGet, "/v2/sandboxes?state=running,paused")
		found := sandboxID.FindAllSubmatch(body, -1)
		if err != nil || len(found) == 0 {
			return
		}
		for _, match := range found {
			_, _ = w.call(http.MethodDelete, "/sandboxes/"+string(match[1]))
		}
	}
}

func (w *world) call(method, path string) ([]byte, error) {
	request, err := http.NewRequest(method, w.url+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-API-Key", w.key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"cube/internal/internet"
)

// domain is what the tests know the server by.
const domain = "cube.test"

// team is the one that their key is of; E2B's have such names.
const team = "00000000-0000-0000-0000-000000000001"

// world is a server with a data directory of its own on a machine with an internet
// of its own, and on that what a user with a domain has: names that lead to it and
// a certificate that is trusted. All of it is in network namespaces, where the
// tests run too: nothing gets out.
type world struct {
	internet *internet.Internet
	machine  *internet.Space // that the server runs on
	client   *http.Client    // on that machine
	url      string          // of the API there
	key      string
	dir      string
	server   *exec.Cmd
	// settings are more of the server's.
	settings []string
	log      *os.File
	closers  []io.Closer
}

// publicURL is where the internet reaches the server without TLS.
const publicURL = "http://" + domain

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
	if err := w.connect(); err != nil {
		return nil, err
	}
	if rootfs != "" {
		images, err := serveImages(ctx, w.machine, rootfs)
		if err != nil {
			return nil, err
		}
		w.closers = append(w.closers, images)
		w.settings = append(w.settings, "--registry-mirror", "docker.io="+images.url())
	}
	if err := w.launch(ctx, binary); err != nil {
		return nil, err
	}
	return w, serveFront(w.internet, w.machine, w.url)
}

// connect makes the internet and the machine, and the files by which programs on
// either know it: the name server and whom to trust.
func (w *world) connect() (err error) {
	if w.internet, err = internet.Open(); err != nil {
		return err
	}
	w.closers = append(w.closers, w.internet)
	if w.machine, err = internet.NewSpace(); err != nil {
		return err
	}
	w.closers = append(w.closers, w.machine)
	if err := w.internet.Connect(w.machine); err != nil {
		return err
	}
	w.client = &http.Client{Transport: transport(w.machine)}
	system, err := os.ReadFile(systemTrust)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"resolv.conf": []byte("nameserver " + internet.NameServer + "\n"),
		"ca.pem":      w.internet.Root, "trusted.pem": append(append(system, '\n'), w.internet.Root...),
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// systemTrust is the file of the certificates that this machine trusts.
const systemTrust = "/etc/ssl/certs/ca-certificates.crt"

// command is a program that finds the files of connect where they belong, in a
// mount namespace of its own. The proxies of who runs this lead out, and are left away.
func (w *world) command(ctx context.Context, program ...string) *exec.Cmd {
	const script = `mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/trusted.pem" "$2" && shift 2 && exec "$@"`
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, "sh", w.dir, systemTrust}, program...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "E2B_") && !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	return cmd
}

// launch starts the server and returns once it takes requests.
func (w *world) launch(ctx context.Context, binary string) error {
	w.server = w.command(ctx, append([]string{binary, "--bind", "127.0.0.1:0", "--data-dir", w.dir, "--domain", domain}, w.settings...)...)
	w.server.Cancel = func() error { return w.server.Process.Signal(syscall.SIGTERM) }
	stderr, err := w.server.StderrPipe()
	if err != nil {
		return err
	}
	if err := w.machine.Start(w.server); err != nil {
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

// run runs a program of the tests on the internet. Its own failure is no error:
// tests that fail make it.
func (w *world) run(ctx context.Context, dir string, environment []string, program ...string) ([]byte, error) {
	cmd := w.command(ctx, program...)
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "E2B_API_KEY="+w.key, "E2B_DOMAIN="+domain,
		"NODE_EXTRA_CA_CERTS="+filepath.Join(w.dir, "ca.pem"), "SSL_CERT_FILE="+systemTrust, "REQUESTS_CA_BUNDLE="+systemTrust)
	cmd.Env = append(cmd.Env, environment...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := w.internet.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		err = nil
	}
	return out.Bytes(), err
}

// buildTemplate builds one of the ready templates that the suites ask for.
func (w *world) buildTemplate(ctx context.Context, binary, name string, environment ...string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	out, err := w.run(ctx, ".", append(environment, "CUBE_API="+binary, "E2B_API_URL="+publicURL), filepath.Join("templates", name, "build"))
	if err == nil && !w.hasTemplate(name) {
		err = errors.New("it is not there")
	}
	if err != nil {
		return fmt.Errorf("building the template %s: %w\n%s", name, err, tail(out))
	}
	return nil
}

func (w *world) hasTemplate(name string) bool {
	_, err := w.call(http.MethodGet, "/templates/aliases/"+name)
	return err == nil
}

// close ends the sandboxes, the server and the rest.
func (w *world) close() {
	if w.server != nil && w.server.Process != nil {
		w.killAll()
		_ = w.server.Process.Signal(syscall.SIGTERM)
		_ = w.server.Wait()
	}
	for _, c := range slices.Backward(w.closers) {
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
	response, err := w.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	return body, err
}

package main

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
)

// configs are what each system is told. Nothing is left to a default that makes
// it slower than it can be.
//
//go:embed configs
var configs embed.FS

// The settings that all share who have them.
const (
	callbackTimeout = time.Second
	cacheTTL        = time.Minute
)

// system is a proxy that asks before it passes a request on.
type system struct {
	name string
	// files are its configuration, by their names in configs.
	files []string
	// command starts it; the configuration is in the folder p.Dir.
	command func(p place) []string
	// program is what must be there.
	program string
	// version prints what it is.
	version []string
	// caches tells whether it can remember answers.
	caches bool
	// pathHeader and methodHeader tell the auth service what is asked about.
	pathHeader, methodHeader string
}

// place is where a system is and what is around it.
type place struct {
	Dir, Listen, Port, Backend, Service string
	Auth, Cache                         bool
	Timeout, CacheTTL                   string
}

// systemsOf are all, those left out too.
func systemsOf(rivals string) []system {
	self, _ := os.Executable()
	caddy, traefik := filepath.Join(rivals, "caddy"), filepath.Join(rivals, "traefik")
	return []system{
		{
			name: "cube", program: self, caches: true, pathHeader: "X-Request-Path", methodHeader: "X-Request-Method",
			command: func(p place) []string {
				args := []string{self, "door", "-listen", p.Listen, "-backend", "http://" + p.Backend}
				if p.Auth {
					args = append(args, "-callback", "http://"+p.Service+"/verify", "-timeout", p.Timeout)
				}
				if p.Cache {
					args = append(args, "-cache-ttl", p.CacheTTL)
				}
				return args
			},
		},
		{
			name: "nginx", program: "nginx", version: []string{"nginx", "-v"}, files: []string{"nginx.conf"}, caches: true,
			pathHeader: "X-Request-Path", methodHeader: "X-Request-Method",
			command: func(p place) []string {
				return []string{"nginx", "-p", p.Dir, "-c", filepath.Join(p.Dir, "nginx.conf"), "-g", "daemon off;"}
			},
		},
		{
			name: "caddy", program: caddy, version: []string{caddy, "version"}, files: []string{"Caddyfile"},
			pathHeader: "X-Forwarded-Uri", methodHeader: "X-Forwarded-Method",
			command: func(p place) []string {
				return []string{caddy, "run", "--adapter", "caddyfile", "--config", filepath.Join(p.Dir, "Caddyfile")}
			},
		},
		{
			name: "traefik", program: traefik, version: []string{traefik, "version"}, files: []string{"traefik.yaml", "routes.yaml"},
			pathHeader: "X-Forwarded-Uri", methodHeader: "X-Forwarded-Method",
			command: func(p place) []string {
				return []string{traefik, "--configFile=" + filepath.Join(p.Dir, "traefik.yaml")}
			},
		},
	}
}

// bench is what all measurements share.
type bench struct {
	ctx     context.Context
	options options
	backend *origin
	service *origin
	systems []system
}

func newBench(ctx context.Context, o options) (*bench, error) {
	b := &bench{ctx: ctx, options: o}
	for _, s := range systemsOf(o.rivals) {
		if !slices.Contains(strings.Split(o.systems, ","), s.name) {
			continue
		}
		if _, err := exec.LookPath(s.program); err != nil {
			fmt.Printf("%s is left out: %s is not there.\n", s.name, filepath.Base(s.program))
			continue
		}
		b.systems = append(b.systems, s)
	}
	var err error
	if b.service, err = startOrigin(allow); err != nil {
		return nil, err
	}
	b.backend, err = startOrigin(say("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"))
	return b, err
}

func (b *bench) close() {
	b.service.down()
	b.backend.down()
}

// describe prints what is measured, and how it is configured.
func (b *bench) describe() {
	for _, s := range b.systems {
		if s.version != nil {
			out, _ := exec.CommandContext(b.ctx, s.version[0], s.version[1:]...).CombinedOutput()
			fmt.Printf("\n%s: %s\n", s.name, strings.Join(strings.Fields(string(out)), " "))
		}
		p := place{Dir: "DIR", Listen: "LISTEN", Port: "PORT", Backend: "BACKEND", Service: "SERVICE", Auth: true, Cache: s.caches, Timeout: callbackTimeout.String(), CacheTTL: cacheTTL.String()}
		if len(s.files) == 0 {
			fmt.Printf("\n%s: %s\n", s.name, strings.Join(s.command(p)[1:], " "))
		}
		for _, file := range s.files {
			text, err := render(file, p)
			if err != nil {
				text = []byte(err.Error())
			}
			fmt.Printf("\n%s:\n\n%s", file, indent(text))
		}
	}
}

func indent(text []byte) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(string(text), "\n"), "\n", "\n    ") + "\n"
}

func render(file string, p place) ([]byte, error) {
	t, err := template.ParseFS(configs, "configs/"+file)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = t.Execute(&text, p)
	return text.Bytes(), err
}

// process is a system that runs.
type process struct {
	system
	place
	cmd  *exec.Cmd
	said bytes.Buffer
}

// start starts a system and waits until it passes a request on.
func (b *bench) start(v variant, timeout time.Duration) (*process, error) {
	s := v.system
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	// What nginx remembers are files: in memory, if there is such a folder.
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "cube-bench")
	if err != nil {
		return nil, err
	}
	// nginx's worker is nobody, and keeps its cache here.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // holds no secret
		return nil, err
	}
	p := &process{system: s, place: place{
		Dir: dir, Listen: listen, Port: listen[strings.LastIndex(listen, ":")+1:], Backend: b.backend.addr, Service: b.service.addr, Auth: v.auth, Cache: v.cache,
		Timeout: timeout.String(), CacheTTL: cacheTTL.String(),
	}}
	for _, file := range s.files {
		text, err := render(file, p.place)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return nil, err
		}
	}
	p.cmd = exec.CommandContext(b.ctx, "taskset", append([]string{"-c", strconv.Itoa(systemCore)}, s.command(p.place)...)...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	// Kept for when it does not start; some log the credentials of requests.
	p.cmd.Stderr = &p.said
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := b.waitReady(p); err != nil {
		p.stop()
		return nil, fmt.Errorf("%w; it said: %.2000s", err, p.said.String())
	}
	return p, nil
}

// request is what the load sends.
var request = []byte("GET /sandboxes HTTP/1.1\r\nHost: cube\r\nX-API-Key: e2b_0123456789abcdef0123456789abcdef01234567\r\n\r\n")

// waitReady waits until the backend answers a request that the system passed on.
func (b *bench) waitReady(p *process) error {
	passed := b.backend.questions.Load()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if status, _ := ask(p.Listen, request, time.Second); status == 200 && b.backend.questions.Load() > passed {
			return nil
		}
	}
	return errors.New("it passed no request on within 20 s")
}

// ask sends bytes on a new connection and returns the status of the answer, 0 for
// none, and how long it took.
func ask(addr string, request []byte, patience time.Duration) (int, time.Duration) {
	got, err := load{addr: addr, request: request, count: 1, connections: 1, patience: patience}.run()
	if err != nil || len(got) != 1 {
		return 0, 0
	}
	return got[0].status, got[0].took
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	killer := time.AfterFunc(3*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	killer.Stop()
	_ = os.RemoveAll(p.Dir)
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// processorTime is what the process and its children have used.
func (p *process) processorTime() time.Duration {
	return processorTime(p.cmd.Process.Pid)
}

var statFields = regexp.MustCompile(`\) . (.*)`)

func processorTime(pid int) time.Duration {
	const tick = 10 * time.Millisecond // Linux shows 100 a second everywhere
	var sum time.Duration
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if match := statFields.FindSubmatch(data); match != nil {
		fields := strings.Fields(string(match[1]))
		for _, field := range fields[10:12] { // in user mode, in the kernel
			n, _ := strconv.Atoi(field)
			sum += time.Duration(n) * tick
		}
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, child := range strings.Fields(string(children)) {
		n, _ := strconv.Atoi(child)
		sum += processorTime(n)
	}
	return sum
}

// variant is a system as one line of a table shows it.
type variant struct {
	system
	auth, cache bool
}

func (v variant) String() string {
	return cmp.Or(map[bool]string{true: v.name + ", cache"}[v.cache], map[bool]string{false: v.name + ", no auth"}[v.auth], v.name)
}

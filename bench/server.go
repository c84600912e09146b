package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"
)

// server is the cube-api that is measured.
type server struct {
	url       string
	operators string // its listener for operators, "" for none
	dir       string
	cmd       *exec.Cmd
	client    *http.Client
	ended     chan struct{}
	cpu       cpuGroups

	mu     sync.Mutex
	tokens map[string]string // that open agents, by sandbox
}

var (
	readyLine     = regexp.MustCompile(`ready" url=(\S+)`)
	operatorsLine = regexp.MustCompile(`operators are answered" url=(\S+)`)
)

// startServer starts bin/cube-api with arguments of its own.
func startServer(ctx context.Context, args ...string) (*server, error) {
	dir, err := os.MkdirTemp("", "cube-bench")
	if err != nil {
		return nil, err
	}
	return startServerIn(ctx, dir, args...)
}

// startServerIn starts one with a data directory that stop removes.
func startServerIn(ctx context.Context, dir string, args ...string) (*server, error) {
	s := &server{
		dir:    dir,
		cmd:    exec.CommandContext(ctx, "bin/cube-api", append([]string{"--bind", "127.0.0.1:0", "--data-dir", dir}, args...)...),
		ended:  make(chan struct{}),
		tokens: map[string]string{},
		client: &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
			MaxIdleConnsPerHost: 100, // a client's own connections must not be what is measured
		}},
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting bin/cube-api ('make build' builds it): %w", err)
	}
	var last string
	ready, operators := make(chan string, 1), make(chan string, 1)
	go func() {
		defer close(s.ended)
		defer close(ready)
		defer close(operators)
		lines := bufio.NewScanner(io.TeeReader(stderr, io.Discard))
		for lines.Scan() {
			last = lines.Text()
			if match := readyLine.FindStringSubmatch(lines.Text()); match != nil {
				ready <- match[1]
			}
			if match := operatorsLine.FindStringSubmatch(lines.Text()); match != nil {
				operators <- match[1]
			}
		}
		_ = s.cmd.Wait()
	}()
	s.url = <-ready
	if s.url == "" {
		return nil, errors.New("the server did not start: " + last)
	}
	if slices.Contains(args, "--admin-bind") {
		s.operators = <-operators
	}
	if s.cpu, err = countCPU(s.cmd.Process.Pid, dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench: processor time is not counted:", err)
	}
	return s, nil
}

// stop kills every sandbox, ends the server, and removes its data.
func (s *server) stop() {
	if ids, err := s.list(); err == nil {
		for _, id := range ids {
			_ = s.kill(id)
		}
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.ended
	s.cpu.remove()
	_ = os.RemoveAll(s.dir)
}

type sandbox struct {
	SandboxID       string `json:"sandboxID"`
	EnvdAccessToken string `json:"envdAccessToken"`
}

// knows remembers what opens a sandbox.
func (s *server) knows(c sandbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[c.SandboxID] = c.EnvdAccessToken
}

// create creates a sandbox and returns its id and what the server says of the
// stages.
func (s *server) create() (id, timing string, err error) { return s.createFrom("base") }

func (s *server) createFrom(template string) (id, timing string, err error) {
	body := []byte(`{"templateID":"` + template + `","timeout":3600,"secure":true}`) // as the SDKs ask
	resp, err := s.client.Post(s.url+"/v2/sandboxes", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", err
	}
	var created sandbox
	if err := json.Unmarshal(data, &created); err != nil || resp.StatusCode != http.StatusCreated {
		return "", "", fmt.Errorf("creating: %s: %s", resp.Status, data)
	}
	s.knows(created)
	return created.SandboxID, resp.Header.Get("Server-Timing"), nil
}

func (s *server) kill(id string) error {
	req, err := http.NewRequest(http.MethodDelete, s.url+"/sandboxes/"+id, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (s *server) list() ([]string, error) {
	var ids []string
	for next := ""; ; {
		resp, err := s.client.Get(s.url + "/v2/sandboxes?limit=100&nextToken=" + next)
		if err != nil {
			return nil, err
		}
		var page []sandbox
		err = json.NewDecoder(resp.Body).Decode(&page)
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
		for _, item := range page {
			ids = append(ids, item.SandboxID)
		}
		if next = resp.Header.Get("X-Next-Token"); next == "" {
			return ids, nil
		}
	}
}

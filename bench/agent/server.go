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
	"syscall"
	"time"

	"cube"
)

// server is the cube-api whose sandbox holds both agents.
type server struct {
	url    string
	dir    string
	cmd    *exec.Cmd
	client *http.Client
	ended  chan struct{}
}

var readyLine = regexp.MustCompile(`ready" url=(\S+)`)

func startServer(ctx context.Context) (*server, error) {
	dir, err := os.MkdirTemp("", "cube-bench")
	if err != nil {
		return nil, err
	}
	s := &server{
		dir: dir,
		// Room for every command at once, and no sandboxes that wait beside it.
		cmd: exec.Command("bin/cube-api", "--bind", "127.0.0.1:0", "--data-dir", dir, "--pool-size", "0",
			"--sandbox-pids", "16384", "--sandbox-memory", "3072", "--sandbox-cpus", "2"),
		ended: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: 4096, // a client's own connections must not be what is measured
			DisableCompression:  true,
			WriteBufferSize:     64 << 10,
			ReadBufferSize:      64 << 10,
		}},
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting bin/cube-api ('make build' builds it): %w", err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(s.ended)
		defer close(ready)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if match := readyLine.FindStringSubmatch(lines.Text()); match != nil {
				ready <- match[1]
			}
		}
		_ = s.cmd.Wait()
	}()
	select {
	case s.url = <-ready:
	case <-ctx.Done():
	}
	if s.url == "" {
		s.stop()
		return nil, errors.New("the server did not start: run bin/cube-api to see why")
	}
	return s, nil
}

// stop ends the server, after the sandbox that was created, and removes its data.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.ended
	_ = os.RemoveAll(s.dir)
}

// sandbox is where both agents live. The agent that is its first process is not
// measured: it starts the others, and looks at them.
type sandbox struct {
	*agent
	server *server
	id     string
}

const lifetimeSeconds = 3600

func (s *server) createSandbox(ctx context.Context) (*sandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	body := fmt.Appendf(nil, `{"templateID":"base","timeout":%d}`, lifetimeSeconds)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/sandboxes", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var created struct {
		SandboxID string `json:"sandboxID"`
	}
	if err := json.Unmarshal(answer, &created); err != nil || resp.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("creating a sandbox: %s: %s", resp.Status, answer)
	}
	first := newAgent(s, created.SandboxID, "first", fmt.Sprint(cube.AgentPort))
	return &sandbox{agent: first, server: s, id: created.SandboxID}, nil
}

// kill removes the sandbox, with the agents in it.
func (h *sandbox) kill() {
	req, err := http.NewRequest(http.MethodDelete, h.server.url+"/sandboxes/"+h.id, nil)
	if err != nil {
		return
	}
	if resp, err := h.server.client.Do(req); err == nil {
		_ = resp.Body.Close()
	}
}

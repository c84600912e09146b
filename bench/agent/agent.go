package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"connectrpc.com/connect"

	"cube/envd/gen/filesystem"
	"cube/envd/gen/filesystem/filesystemconnect"
	"cube/envd/gen/process"
	"cube/envd/gen/process/processconnect"
)

// agent is a client of one agent in the sandbox. Everybody in there is root.
type agent struct {
	name      string
	pid       uint32
	client    *http.Client
	url       string
	header    http.Header
	processes processconnect.ProcessClient
	files     filesystemconnect.FilesystemClient
}

func newAgent(s *server, sandboxID, name, port string) *agent {
	return &agent{
		name: name, client: s.client, url: s.url,
		header: http.Header{
			"E2b-Sandbox-Id":   {sandboxID},
			"E2b-Sandbox-Port": {port},
			"Authorization":    {"Basic " + base64.StdEncoding.EncodeToString([]byte("root:"))},
		},
		processes: processconnect.NewProcessClient(s.client, s.url, connect.WithProtoJSON()),
		files:     filesystemconnect.NewFilesystemClient(s.client, s.url, connect.WithProtoJSON()),
	}
}

// request makes a message to this agent.
func request[T any](a *agent, message *T) *connect.Request[T] {
	r := connect.NewRequest(message)
	for name, values := range a.header {
		r.Header()[name] = values
	}
	return r
}

// command is a process that was started, and its stream.
type command struct {
	stream  *connect.ServerStreamForClient[process.StartResponse]
	pid     uint32
	printed int // bytes of standard output
}

// start starts a program, and returns once the agent says that it runs.
func (a *agent) start(ctx context.Context, program string, args ...string) (*command, error) {
	stdin := false
	stream, err := a.processes.Start(ctx, request(a, &process.StartRequest{
		Process: &process.ProcessConfig{Cmd: program, Args: args}, Stdin: &stdin,
	}))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.name, err)
	}
	c := &command{stream: stream}
	for stream.Receive() {
		if started := stream.Msg().GetEvent().GetStart(); started != nil {
			c.pid = started.GetPid()
			return c, nil
		}
	}
	return nil, fmt.Errorf("%s: the stream of %s does not begin with a start: %w", a.name, program, stream.Err())
}

// wait reads the stream to its end. Each piece of standard output goes to
// output, if that is not nil.
func (c *command) wait(output io.Writer) error {
	defer c.stream.Close()
	for c.stream.Receive() {
		event := c.stream.Msg().GetEvent()
		if data := event.GetData().GetStdout(); len(data) > 0 {
			c.printed += len(data)
			if output != nil {
				_, _ = output.Write(data)
			}
		}
		if end := event.GetEnd(); end != nil {
			if end.GetExitCode() != 0 || !end.GetExited() {
				return fmt.Errorf("a command ended with %q", end.GetStatus())
			}
			return nil
		}
	}
	return errors.Join(errors.New("a stream ended before its command"), c.stream.Err())
}

// shell runs a script to its end and returns what it prints.
func (a *agent) shell(ctx context.Context, script string) (string, error) {
	c, err := a.start(ctx, "/bin/sh", "-c", script)
	if err != nil {
		return "", err
	}
	var printed strings.Builder
	if err := c.wait(&printed); err != nil {
		return "", fmt.Errorf("%s: %s: %w", a.name, script, err)
	}
	return printed.String(), nil
}

// list returns how many entries a directory has.
func (a *agent) list(ctx context.Context, path string) (int, error) {
	answer, err := a.files.ListDir(ctx, request(a, &filesystem.ListDirRequest{Path: path, Depth: 1}))
	if err != nil {
		return 0, fmt.Errorf("%s: listing: %w", a.name, err)
	}
	return len(answer.Msg.GetEntries()), nil
}

// upload writes a file.
func (a *agent) upload(ctx context.Context, path string, content io.Reader) error {
	_, err := a.do(ctx, http.MethodPost, "/files?username=root&path="+url.QueryEscape(path), "application/octet-stream", content)
	return err
}

// download reads a file and returns how many bytes came.
func (a *agent) download(ctx context.Context, path string) (int64, error) {
	return a.do(ctx, http.MethodGet, "/files?username=root&path="+url.QueryEscape(path), "", nil)
}

// initialise gives the agent settings, without which it answers nobody.
func (a *agent) initialise(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodPost, "/init", "application/json", strings.NewReader(`{"defaultUser":"root"}`))
	return err
}

func (a *agent) do(ctx context.Context, method, path, contentType string, body io.Reader) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, body)
	if err != nil {
		return 0, err
	}
	req.Header = a.header.Clone()
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", a.name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return 0, fmt.Errorf("%s: %s %s: %s %s", a.name, method, path, resp.Status, said)
	}
	return io.Copy(io.Discard, resp.Body)
}

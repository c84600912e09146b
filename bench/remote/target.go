// Package remote measures a server that speaks E2B's API, whoever wrote it: how
// long it takes to create a sandbox, to run a first command in it and a second,
// and to kill it. 'cube-api bench' is its face.
//
// It speaks as E2B's SDKs do and knows nothing of this server: a comparison that
// is made with it is fair. It must never leave a sandbox that it created, as far
// as the server lets it.
package remote

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
	"cube/envd/gen/process/processconnect"
)

const (
	agentPort = "49983"
	// lifetime is what a sandbox gets, in seconds: it ends by itself if this
	// program is killed.
	lifetime = 120
	// killTimeout bounds the removal of what was created, also after the end of
	// the run.
	killTimeout = 30 * time.Second
	// maxAnswerBytes is more than any server says of a sandbox.
	maxAnswerBytes = 1 << 20
)

// Target is the server to measure.
type Target struct {
	APIURL string // of the control plane, without a slash at its end
	// SandboxURL is one address for all sandboxes, told apart by E2B's headers.
	// "": each has a host name of its own, in the domain that the server says.
	SandboxURL string
	Key        string
	Template   string
	Command    string // for the sandbox's shell
	Client     *http.Client
}

// Stage is a part of what is measured.
type Stage int

// The stages, in their order.
const (
	Create Stage = iota // POST /sandboxes to its answer
	First               // a first command to its exit
	Second              // the same once more
	Kill                // DELETE to its answer
	Stages              // how many there are
)

// String is what a person reads.
func (s Stage) String() string {
	return [...]string{"create", "first command", "second command", "kill"}[s]
}

type sandbox struct {
	ID     string `json:"sandboxID"`
	Domain string `json:"domain"`
	Token  string `json:"envdAccessToken"`
}

// once measures one sandbox. done is called for each stage that succeeded.
func (t *Target) once(ctx context.Context, done func(Stage, time.Duration)) (err error) {
	began := time.Now()
	created, err := t.create(ctx)
	if err != nil {
		return err
	}
	done(Create, time.Since(began))
	defer func() {
		began := time.Now()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
		defer cancel()
		if e := t.kill(ending, created.ID); e != nil {
			err = errors.Join(err, e)
			return
		}
		done(Kill, time.Since(began))
	}()
	for _, stage := range []Stage{First, Second} {
		began := time.Now()
		if err := t.run(ctx, created); err != nil {
			return fmt.Errorf("%s: %w", stage, err)
		}
		done(stage, time.Since(began))
	}
	return nil
}

func (t *Target) create(ctx context.Context) (created sandbox, err error) {
	body, err := json.Marshal(map[string]any{"templateID": t.Template, "timeout": lifetime, "secure": true})
	if err != nil {
		return created, err
	}
	answer, err := t.call(ctx, http.MethodPost, "/sandboxes", body)
	if err != nil {
		return created, fmt.Errorf("create: %w", err)
	}
	if err := json.Unmarshal(answer, &created); err != nil || created.ID == "" {
		return created, errors.New("create: the answer names no sandbox: is this the API's address?")
	}
	return created, nil
}

func (t *Target) kill(ctx context.Context, id string) error {
	if _, err := t.call(ctx, http.MethodDelete, "/sandboxes/"+id, nil); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

// call asks the control plane.
func (t *Target) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, t.APIURL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-API-Key", t.Key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := t.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s", resp.Status, bytes.TrimSpace(answer[:min(len(answer), 300)]))
	}
	return answer, nil
}

// run runs the command in a sandbox, as the SDKs' commands.run does.
func (t *Target) run(ctx context.Context, s sandbox) error {
	url := t.SandboxURL
	if url == "" {
		scheme, _, _ := strings.Cut(t.APIURL, "://")
		url = scheme + "://" + agentPort + "-" + s.ID + "." + s.Domain
	}
	req := connect.NewRequest(&pb.StartRequest{Process: &pb.ProcessConfig{Cmd: "/bin/bash", Args: []string{"-l", "-c", t.Command}}})
	req.Header().Set("E2b-Sandbox-Id", s.ID)
	req.Header().Set("E2b-Sandbox-Port", agentPort)
	req.Header().Set("X-Access-Token", s.Token)
	req.Header().Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("user:")))
	stream, err := processconnect.NewProcessClient(t.Client, url, connect.WithProtoJSON()).Start(ctx, req)
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if end := stream.Msg().GetEvent().GetEnd(); end != nil {
			if end.GetExitCode() != 0 {
				return fmt.Errorf("%q ended with status %d", t.Command, end.GetExitCode())
			}
			return nil
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return errors.New("the stream ended before the command")
}

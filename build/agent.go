package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"cube"
)

// What an agent may answer, in bytes: it comes out of a sandbox.
const (
	maxAnswer       = 64 << 10
	maxAnswerHeader = 16 << 10
)

// agentTimeout bounds the agent's answer to its settings.
const agentTimeout = 20 * time.Second

// agentURL is where the agent is asked; every connection goes to it, whatever the
// name.
const agentURL = "http://agent"

// Dialer opens a stream to a port of a sandbox: see cube.Engine.
type Dialer interface {
	Dial(ctx context.Context, id cube.SandboxID, port uint16) (net.Conn, error)
}

// agentTransport carries requests to a sandbox's agent, each on a connection of its
// own: none is left behind in what is kept of the sandbox.
func agentTransport(d Dialer, id cube.SandboxID) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.Dial(ctx, id, cube.AgentPort)
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// agentSettings is the body of POST /init.
type agentSettings struct {
	EnvVars        map[string]string `json:"envVars,omitempty"`
	HostKey        string            `json:"hostKey"`
	DefaultUser    string            `json:"defaultUser,omitempty"`
	DefaultWorkdir string            `json:"defaultWorkdir,omitempty"`
	SandboxID      cube.SandboxID    `json:"sandboxID"`
	TemplateID     cube.TemplateID   `json:"templateID"`
}

// init gives the agent its settings. There is no access token: nobody but this
// server reaches a sandbox that no row names, and what is kept of it gets its
// token with the settings of whoever it becomes.
func (w *worker) init(ctx context.Context, d cube.Defaults) error {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	body, err := json.Marshal(agentSettings{d.EnvVars, w.hostKey, d.User, d.Workdir, w.id, w.build.spec.Template})
	if err != nil {
		return err
	}
	status, _, err := w.post(ctx, "/init", bytes.NewReader(body), int64(len(body)))
	if err == nil && status != http.StatusNoContent {
		err = fmt.Errorf("the agent answered %d, not 204", status)
	}
	return err
}

// agentRequest is the body of the agent's steps: see cube/envd.
type agentRequest struct {
	Name string `json:"name,omitempty"`
	Sudo bool   `json:"sudo,omitempty"`
	Path string `json:"path,omitempty"`
	User string `json:"user,omitempty"`
}

// ask has the agent do a step. failed begins the message of an error.
func (w *worker) ask(ctx context.Context, what string, r agentRequest, failed string) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return w.send(ctx, what, bytes.NewReader(body), int64(len(body)), failed)
}

func (w *worker) send(ctx context.Context, what string, body io.Reader, size int64, failed string) error {
	status, answer, err := w.post(ctx, "/build/"+what, body, size)
	if err != nil {
		return fmt.Errorf("%s: %w", failed, err)
	}
	if status == http.StatusOK {
		return nil
	}
	var e struct{ Message string }
	if err := json.Unmarshal(answer, &e); err != nil || e.Message == "" {
		e.Message = fmt.Sprintf("the agent answered %d", status)
	}
	return failf("%s: %s", failed, cut(e.Message))
}

// post asks the agent as the server that it belongs to.
func (w *worker) post(ctx context.Context, path string, body io.Reader, size int64) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, agentURL+path, body)
	if err != nil {
		return 0, nil, err
	}
	r.ContentLength = size
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Host-Key", w.hostKey)
	resp, err := w.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, answer, err
}

package lifecycle

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"cube"
)

const (
	// agentTimeout bounds the agent's answer. It needs about a millisecond; on
	// an overloaded machine it may have to wait for a processor.
	agentTimeout = 20 * time.Second
	// maxAgentHeader bounds the answer's head in bytes. Its body is not read: it
	// comes out of a sandbox, and might quote the secrets that went in.
	maxAgentHeader = 16 << 10
	// defaultUser is who runs the user's commands when they name nobody.
	defaultUser = "user"
)

// agentSettings is the body of POST /init: E2B's, and the key that keeps code in
// the sandbox from calling it again.
type agentSettings struct {
	EnvVars     map[string]string `json:"envVars,omitempty"`
	AccessToken string            `json:"accessToken,omitempty"`
	HostKey     string            `json:"hostKey"`
	Timestamp   time.Time         `json:"timestamp"`
	DefaultUser string            `json:"defaultUser"`
	Workdir     string            `json:"defaultWorkdir,omitempty"`
	SandboxID   cube.SandboxID    `json:"sandboxID"`
	TemplateID  string            `json:"templateID"`
	CABundle    string            `json:"caBundle,omitempty"`
	// KeepStreams says that the sandbox ran meanwhile, and whoever follows its
	// processes still does.
	KeepStreams bool `json:"keepStreams,omitempty"`
}

// initAgent gives the agent of a sandbox its settings. Until then a new one serves
// nobody, and one out of a snapshot's memory those who knew it there. hostKey is
// what the agent goes by now, "" for a new one.
func initAgent(ctx context.Context, engine cube.Engine, sandbox cube.Sandbox, hostKey string) error {
	return settleAgent(ctx, engine, sandbox, hostKey, false)
}

// settleAgent is initAgent, also for a sandbox that runs and goes on.
func settleAgent(ctx context.Context, engine cube.Engine, sandbox cube.Sandbox, hostKey string, goesOn bool) error {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	body, err := json.Marshal(agentSettings{
		EnvVars:     sandbox.EnvVars,
		AccessToken: sandbox.AccessToken,
		HostKey:     sandbox.HostKey,
		Timestamp:   time.Now().UTC(),
		DefaultUser: cmp.Or(sandbox.User, defaultUser),
		Workdir:     sandbox.Workdir,
		SandboxID:   sandbox.ID,
		TemplateID:  string(sandbox.Template),
		CABundle:    certificateOf(sandbox.Network.Authority),
		KeepStreams: goesOn,
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/init", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if hostKey != "" {
		req.Header.Set("X-Host-Key", hostKey)
	}
	resp, err := agentTransport(engine, sandbox.ID).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the agent answered %d, not 204", resp.StatusCode)
	}
	return nil
}

// agentTransport carries one request to a sandbox's agent. As a bare transport
// it follows no redirect.
func agentTransport(engine cube.Engine, id cube.SandboxID) http.RoundTripper {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return engine.Dial(ctx, id, cube.AgentPort)
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAgentHeader,
	}
}

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// shell runs a script in a login shell, as the SDKs run commands, and returns
// what it printed to standard output and error, and its exit code. A script whose
// stream breaks off fails the test.
func (s *server) shell(c sandbox, user, script string) (string, int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	out, code, err := s.tryShell(ctx, c, user, script)
	if err != nil {
		s.t.Fatalf("running %.200q: %v, after %.500q", script, err, out)
	}
	return out, code
}

func (s *server) tryShell(ctx context.Context, c sandbox, user, script string) (string, int, error) {
	stream, err := s.startShell(ctx, c, user, script)
	if err != nil {
		return "", 0, err
	}
	defer stream.Close()
	var out bytes.Buffer
	for {
		event, err := stream.next()
		if err != nil {
			return out.String(), 0, err
		}
		out.Write(event.Data.Stdout)
		out.Write(event.Data.Stderr)
		if event.End != nil {
			return out.String(), event.End.ExitCode, nil
		}
	}
}

// processEvent is one event of the stream of a process.
type processEvent struct {
	Start struct{ Pid int }
	Data  struct{ Stdout, Stderr []byte }
	End   *struct{ ExitCode int }
}

// processStream is the answer to process.Process/Start.
type processStream struct{ io.ReadCloser }

// startShell starts a script; whoever does not read the stream is a client that
// stopped reading.
func (s *server) startShell(ctx context.Context, c sandbox, user, script string) (processStream, error) {
	return s.openProcess(ctx, c, user, "Start", map[string]any{
		"process": map[string]any{"cmd": "/bin/bash", "args": []string{"-l", "-c", script}}, "stdin": false,
	})
}

// connectTo follows a process that runs, or did a short while ago.
func (s *server) connectTo(ctx context.Context, c sandbox, pid int) (processStream, error) {
	return s.openProcess(ctx, c, "user", "Connect", map[string]any{"process": map[string]any{"pid": pid}})
}

func (s *server) openProcess(ctx context.Context, c sandbox, user, method string, request any) (processStream, error) {
	message, err := json.Marshal(request)
	if err != nil {
		return processStream{}, err
	}
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	req, err := http.NewRequestWithContext(ctx, "POST", s.url+"/process.Process/"+method, bytes.NewReader(frame))
	if err != nil {
		return processStream{}, err
	}
	req.Header.Set("Content-Type", "application/connect+json")
	req.Header.Set("Connect-Protocol-Version", "1")
	req.Header.Set("E2b-Sandbox-Id", c.SandboxID)
	req.Header.Set("E2b-Sandbox-Port", "49983")
	req.Header.Set("X-Access-Token", c.EnvdAccessToken)
	req.SetBasicAuth(user, "")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return processStream{}, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return processStream{}, fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return processStream{resp.Body}, nil
}

// next returns the next event; the end of the stream is an error.
func (p processStream) next() (processEvent, error) {
	var head [5]byte
	if _, err := io.ReadFull(p, head[:]); err != nil {
		return processEvent{}, err
	}
	message := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(p, message); err != nil {
		return processEvent{}, err
	}
	if head[0]&2 != 0 { // the end of the stream, with an error if it failed
		return processEvent{}, errors.New("the stream ended: " + string(message))
	}
	var m struct{ Event processEvent }
	return m.Event, json.Unmarshal(message, &m)
}

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
	"cube/envd/gen/process/processconnect"
)

const (
	stateRuns = 10
	children  = 10
)

// measurePauses times pausing and resuming with some memory in use.
func measurePauses(ctx context.Context, s *server, _ options, add func(...result)) error {
	for _, mib := range []int{0, 64, 256, 512} {
		if err := measurePause(ctx, s, mib, add); err != nil {
			return fmt.Errorf("with %d MiB: %w", mib, err)
		}
	}
	return nil
}

// measurePause fills memory with what cannot be compressed, and pauses and
// resumes again and again; a resume is over when a command has answered.
func measurePause(ctx context.Context, s *server, mib int, add func(...result)) error {
	id, _, err := s.create()
	if err != nil {
		return err
	}
	defer func() { _ = s.kill(id) }()
	if mib > 0 {
		script := fmt.Sprintf("exec python3 -c 'import os, time; x = [os.urandom(1 << 20) for _ in range(%d)]; print(\"ready\", flush=True); time.sleep(1e6)'", mib)
		if err := s.command(ctx, id, script, true); err != nil {
			return err
		}
	}
	var pauses, resumes []time.Duration
	used, _ := s.cpu.used()
	for range stateRuns {
		began := time.Now()
		if err := s.ask(http.MethodPost, "/sandboxes/"+id+"/pause", nil, nil); err != nil {
			return err
		}
		pauses = append(pauses, time.Since(began))
		began = time.Now()
		if err := s.ask(http.MethodPost, "/sandboxes/"+id+"/connect", map[string]int{"timeout": 3600}, nil); err != nil {
			return err
		}
		if err := s.command(ctx, id, "true", false); err != nil {
			return err
		}
		resumes = append(resumes, time.Since(began))
	}
	inUse := "idle"
	if mib > 0 {
		inUse = fmt.Sprintf("%d MiB in use", mib)
	}
	pause, resume := milliseconds("pause, "+inUse, pauses, 0), milliseconds("resume to a command's answer, "+inUse, resumes, 0)
	pause.Series, pause.X = "pause", float64(max(mib, 1))
	resume.Series, resume.X = "resume", float64(max(mib, 1))
	resume.Comment = s.cpu.each(used, stateRuns) + ", pauses included"
	add(pause, resume)
	return nil
}

func measureSnapshot(_ context.Context, s *server, _ options, add func(...result)) error {
	id, _, err := s.create()
	if err != nil {
		return err
	}
	defer func() { _ = s.kill(id) }()
	var times []time.Duration
	for range stateRuns {
		var made struct{ SnapshotID string }
		began := time.Now()
		if err := s.ask(http.MethodPost, "/sandboxes/"+id+"/snapshots", map[string]any{}, &made); err != nil {
			return err
		}
		times = append(times, time.Since(began))
		if err := s.ask(http.MethodDelete, "/templates/"+made.SnapshotID, nil, nil); err != nil {
			return err
		}
	}
	add(milliseconds("snapshot of an idle sandbox that runs on", times, 0))
	return nil
}

// measureFork is over when all children have answered.
func measureFork(ctx context.Context, s *server, _ options, add func(...result)) error {
	id, _, err := s.create()
	if err != nil {
		return err
	}
	defer func() { _ = s.kill(id) }()
	var times []time.Duration
	used, _ := s.cpu.used()
	for range stateRuns {
		var made []struct {
			Sandbox sandbox `json:"sandbox"`
		}
		began := time.Now()
		if err := s.ask(http.MethodPost, "/sandboxes/"+id+"/fork", map[string]int{"count": children, "timeout": 3600}, &made); err != nil {
			return err
		}
		var answering sync.WaitGroup
		failures := make(chan error, len(made))
		for _, child := range made {
			s.knows(child.Sandbox)
			answering.Go(func() { failures <- s.command(ctx, child.Sandbox.SandboxID, "true", false) })
		}
		answering.Wait()
		took := time.Since(began)
		for range made {
			if err := <-failures; err != nil {
				return err
			}
		}
		times = append(times, took)
		for _, child := range made {
			if err := s.kill(child.Sandbox.SandboxID); err != nil {
				return err
			}
		}
	}
	row := milliseconds(fmt.Sprintf("fork into %d until all have answered a command", children), times, 0)
	row.Comment = s.cpu.each(used, stateRuns*children)
	add(row)
	return nil
}

// ask asks the API, and reads the answer into answer if it is not nil.
func (s *server) ask(method, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if body == nil {
		data = nil
	}
	req, err := http.NewRequest(method, s.url+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, data)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(data, answer)
}

// command runs one in a sandbox, to its end or, if it is to go on, to its first
// output.
func (s *server) command(ctx context.Context, id, script string, goesOn bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := connect.NewRequest(&pb.StartRequest{Process: &pb.ProcessConfig{Cmd: "/bin/bash", Args: []string{"-c", script}}})
	req.Header().Set("E2b-Sandbox-Id", id)
	req.Header().Set("E2b-Sandbox-Port", "49983")
	s.mu.Lock()
	req.Header().Set("X-Access-Token", s.tokens[id])
	s.mu.Unlock()
	req.Header().Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("user:")))
	stream, err := processconnect.NewProcessClient(s.client, s.url, connect.WithProtoJSON()).Start(ctx, req)
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		event := stream.Msg().GetEvent()
		if event.GetEnd() != nil || goesOn && event.GetData() != nil {
			return nil
		}
	}
	return errors.Join(errors.New("the stream ended before the command"), stream.Err())
}

// Package remote builds templates on a server that speaks E2B's API, as E2B's
// SDKs do: files are uploaded, the build is asked for and its log followed. It
// must never read a file outside of the directory that it was given, and never
// show the key.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"cube"
	"cube/build"
)

// Server is where templates are built.
type Server struct {
	URL string // of the API, without a slash at its end
	Key string // a secret
}

// Template is one to build.
type Template struct {
	Name     string
	CPUs     int // 0 for what the server has as its default
	MemoryMB int
	// From, FromTemplate and FromArchive are an image, a template and an image's
	// archive in a file: one of them.
	From, FromTemplate, FromArchive string
	Steps                           []build.Step // those that copy have files by their hash
	Files                           map[string]*Files
	StartCmd, ReadyCmd              string
	Force                           bool
}

// Built is what came of it.
type Built struct{ TemplateID, BuildID string }

// pollEvery is how often the log is asked for.
const pollEvery = 300 * time.Millisecond

// Build returns when the template is ready, or with an error that says why it is
// not. log is told each line of the build's log.
func (s Server) Build(ctx context.Context, t Template, log func(cube.LogEntry)) (Built, error) {
	request := map[string]any{"name": t.Name}
	if t.CPUs > 0 {
		request["cpuCount"] = t.CPUs
	}
	if t.MemoryMB > 0 {
		request["memoryMB"] = t.MemoryMB
	}
	var b Built
	if err := s.call(ctx, http.MethodPost, "/v3/templates", request, &b); err != nil {
		return Built{}, err
	}
	start := map[string]any{"steps": steps(t.Steps), "force": t.Force}
	for field, value := range map[string]string{"fromImage": t.From, "fromTemplate": t.FromTemplate, "startCmd": t.StartCmd, "readyCmd": t.ReadyCmd} {
		if value != "" {
			start[field] = value
		}
	}
	for hash, files := range t.Files {
		if err := s.upload(ctx, b.TemplateID, hash, files.archive); err != nil {
			return b, err
		}
	}
	if t.FromArchive != "" {
		hash, err := hashFile(t.FromArchive)
		if err != nil {
			return b, err
		}
		if err := s.upload(ctx, b.TemplateID, hash, func() (string, error) { return t.FromArchive, nil }); err != nil {
			return b, err
		}
		start["fromArchive"] = hash
	}
	at := "/templates/" + url.PathEscape(b.TemplateID) + "/builds/" + url.PathEscape(b.BuildID)
	if err := s.call(ctx, http.MethodPost, "/v2"+at, start, nil); err != nil {
		return b, err
	}
	return b, s.follow(ctx, at, log)
}

func steps(all []build.Step) []map[string]any {
	out := make([]map[string]any, len(all))
	for i, step := range all {
		out[i] = map[string]any{"type": step.Type, "args": step.Args, "force": step.Force}
		if step.FilesHash != "" {
			out[i]["filesHash"] = step.FilesHash
		}
	}
	return out
}

// upload sends a file, unless the server has it.
func (s Server) upload(ctx context.Context, template, hash string, find func() (string, error)) error {
	var link struct {
		Present bool
		URL     string
		Headers map[string]string
	}
	if err := s.call(ctx, http.MethodGet, "/templates/"+url.PathEscape(template)+"/files/"+hash, nil, &link); err != nil {
		return err
	}
	if link.Present {
		return nil
	}
	file, err := find()
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at, err := url.Parse(s.URL)
	if err == nil {
		at, err = at.Parse(link.URL)
	}
	if err != nil {
		return fmt.Errorf("the server's link to upload to: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, at.String(), f)
	if err != nil {
		return err
	}
	req.ContentLength = info.Size()
	if info.Size() == 0 {
		req.Body = http.NoBody
	}
	for name, value := range link.Headers {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("uploading %s: %w", file, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("uploading %s: %w", file, refusal(resp))
	}
	return nil
}

// follow tells the log until the build has ended.
func (s Server) follow(ctx context.Context, at string, log func(cube.LogEntry)) error {
	for offset := 0; ; {
		var status struct {
			Status     cube.BuildStatus
			LogEntries []struct {
				Timestamp time.Time
				Level     string
				Message   string
				Step      string
			}
			Reason struct{ Message, Step string }
		}
		if err := s.call(ctx, http.MethodGet, at+"/status?logsOffset="+strconv.Itoa(offset), nil, &status); err != nil {
			return err
		}
		for _, e := range status.LogEntries {
			log(cube.LogEntry{Time: e.Timestamp, Level: e.Level, Message: e.Message, Step: e.Step})
		}
		if offset += len(status.LogEntries); len(status.LogEntries) > 0 {
			continue // there may be more
		}
		switch status.Status {
		case cube.BuildReady:
			return nil
		case cube.BuildError:
			if status.Reason.Message == "" {
				return errors.New("the build failed")
			}
			failed := errors.New(status.Reason.Message)
			if step, err := strconv.Atoi(status.Reason.Step); err == nil && step > 0 {
				return &StepError{step - 1, failed}
			}
			return failed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// call asks the API. answer may be nil.
func (s Server) call(ctx context.Context, method, path string, body, answer any) error {
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, reader)
	if err != nil {
		return err
	}
	req.Header.Set("X-API-Key", s.Key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("is a server there? %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return refusal(resp)
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(answer); err != nil {
		return fmt.Errorf("the server's answer to %s %s: %w", method, path, err)
	}
	return nil
}

// refusal is what the server says of a request that it does not do.
func refusal(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var said struct{ Message string }
	if json.Unmarshal(b, &said) == nil && said.Message != "" {
		return fmt.Errorf("%s (%s)", said.Message, resp.Status)
	}
	return fmt.Errorf("the server answers %s: %s", resp.Status, strings.TrimSpace(string(b[:min(len(b), 500)])))
}

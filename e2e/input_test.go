package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answered is E2B's form of an error, with our addition.
type answered struct {
	Code    int
	Message string
	Ended   *struct{ Reason, By, Detail string }
}

// TestBadInput sends what no request should be, and expects a clear 4xx that
// changes nothing.
func TestBadInput(t *testing.T) {
	s := start(t)
	id := s.create().SandboxID
	metadata := func(n int) string {
		pairs := make(map[string]string, n)
		for i := range n {
			pairs[fmt.Sprint("key", i)] = "v"
		}
		data, err := json.Marshal(map[string]any{"templateID": "base", "metadata": pairs})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	const absent = "i00000000000000000000"
	for _, row := range []struct {
		name, method, path, body string
		want                     int
		says                     string
	}{
		{"an unknown template", "POST", "/v2/sandboxes", `{"templateID":"nope"}`, 404, "nope"},
		{"no template", "POST", "/v2/sandboxes", `{}`, 400, "templateID"},
		{"no JSON", "POST", "/v2/sandboxes", `{"templateID`, 400, "JSON"},
		{"no object", "POST", "/v2/sandboxes", `[]`, 400, "JSON object"},
		{"null", "POST", "/v2/sandboxes", `null`, 400, "JSON object"},
		{"more than one object", "POST", "/v2/sandboxes", `{"templateID":"base"}{}`, 400, "goes on"},
		{"a timeout of words", "POST", "/v2/sandboxes", `{"templateID":"base","timeout":"long"}`, 400, "timeout"},
		{"a negative timeout", "POST", "/v2/sandboxes", `{"templateID":"base","timeout":-1}`, 400, "Timeout must be greater than 0"},
		{"a huge timeout", "POST", "/v2/sandboxes", `{"templateID":"base","timeout":9000000000000000000}`, 400, "86400"},
		{"a timeout beyond numbers", "POST", "/v2/sandboxes", `{"templateID":"base","timeout":1e400}`, 400, "timeout"},
		{"100,000 metadata keys", "POST", "/v2/sandboxes", metadata(100_000), 413, "larger"},
		{"1,000 metadata keys", "POST", "/v2/sandboxes", metadata(1_000), 400, "at most 100"},
		{"metadata of numbers", "POST", "/v2/sandboxes", `{"templateID":"base","metadata":{"a":1}}`, 400, "metadata"},
		{"a variable without a name", "POST", "/v2/sandboxes", `{"templateID":"base","envVars":{"":"x"}}`, 400, "envVars"},
		{"a variable named A=B", "POST", "/v2/sandboxes", `{"templateID":"base","envVars":{"A=B":"x"}}`, 400, "envVars"},
		{"keeping files at no end", "POST", "/v2/sandboxes", `{"templateID":"base","autoPauseMemory":false}`, 400, "autoPause: true"},
		{"pausing what is not there", "POST", "/sandboxes/" + absent + "/pause", "", 404, absent},
		{"pausing by halves", "POST", "/sandboxes/" + id + "/pause", `{"memory":"half"}`, 400, "memory"},
		{"resuming what runs", "POST", "/sandboxes/" + id + "/resume", "", 409, "runs already"},
		{"a fork of none", "POST", "/sandboxes/" + id + "/fork", `{"count":0}`, 400, "Count must be 1 to 100"},
		{"a fork of 101", "POST", "/sandboxes/" + id + "/fork", `{"count":101}`, 400, "Count must be 1 to 100"},
		{"a fork that lives for no time", "POST", "/sandboxes/" + id + "/fork", `{"timeout":0}`, 400, "Timeout must be greater than 0"},
		{"a snapshot with a strange name", "POST", "/sandboxes/" + id + "/snapshots", `{"name":"../etc"}`, 400, "Invalid name"},
		{"a snapshot named as a template", "POST", "/sandboxes/" + id + "/snapshots", `{"name":"base"}`, 409, "base"},
		{"a page of 101 snapshots", "GET", "/snapshots?limit=101", "", 400, "limit"},
		{"a cursor of somebody else's snapshots", "GET", "/snapshots?nextToken=abc", "", 400, "next page"},
		{"deleting a snapshot that is not there", "DELETE", "/templates/nope", "", 404, "nope"},
		{"deleting the server's template", "DELETE", "/templates/base", "", 403, "base"},
		{"a network rule", "POST", "/v2/sandboxes", `{"templateID":"base","network":{"denyOut":["example.com"]}}`, 400, "example.com"},
		{"a network rule of tomorrow", "POST", "/v2/sandboxes", `{"templateID":"base","network":{"quantum":true}}`, 400, "network.quantum"},
		{"a volume", "POST", "/v2/sandboxes", `{"templateID":"base","volumeMounts":[{"name":"v","path":"/v"}]}`, 400, "volumeMounts"},
		{"an id with dots", "GET", "/sandboxes/../health", "", 400, "path"},
		{"an id with escaped dots", "GET", "/sandboxes/%2e%2e%2fhealth", "", 400, "path"},
		{"an id of another form", "GET", "/sandboxes/INVALID", "", 404, "INVALID"},
		{"an id that is not there", "GET", "/sandboxes/" + absent, "", 404, absent},
		{"killing what is not there", "DELETE", "/sandboxes/" + absent, "", 404, absent},
		{"connecting to what is not there", "POST", "/v2/sandboxes/" + absent + "/connect", "", 404, absent},
		{"a deadline for what is not there", "POST", "/sandboxes/" + absent + "/timeout", `{"timeout":1}`, 404, absent},
		{"no deadline", "POST", "/sandboxes/" + id + "/timeout", `{}`, 400, "timeout"},
		{"a huge deadline", "POST", "/sandboxes/" + id + "/timeout", `{"timeout":100000000}`, 400, "86400"},
		{"a long refresh", "POST", "/sandboxes/" + id + "/refreshes", `{"duration":3601}`, 400, "duration"},
		{"a connect without a timeout", "POST", "/sandboxes/" + id + "/connect", `{}`, 400, "timeout"},
		{"a page of none", "GET", "/v2/sandboxes?limit=0", "", 400, "limit"},
		{"a page of 101", "GET", "/v2/sandboxes?limit=101", "", 400, "limit"},
		{"a state of tomorrow", "GET", "/v2/sandboxes?state=flying", "", 400, "state"},
		{"a cursor of somebody else", "GET", "/v2/sandboxes?nextToken=%21%21", "", 400, ""},
		{"a feature that is not there", "GET", "/volumes", "", 501, "Volumes"},
		{"a template that is not there", "GET", "/templates/no-such-template", "", 404, "no-such-template"},
		{"a network rule for a sandbox that runs", "PUT", "/sandboxes/" + id + "/network", `{"denyOut":["10.0.0.0/99"]}`, 400, "10.0.0.0/99"},
		{"a template's name", "POST", "/v3/templates", `{"name":"No Such Name!"}`, 400, ""},
		{"a path that is not there", "GET", "/nothing", "", 404, "openapi.yaml"},
		{"a method that is not there", "PUT", "/sandboxes", "", 405, "GET, POST"},
	} {
		t.Run(row.name, func(t *testing.T) {
			// Written by hand: a client's library would clean the path.
			got := raw(t, s, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", row.method, row.path, len(row.body), row.body))
			defer got.Body.Close()
			data, _ := io.ReadAll(got.Body)
			var a answered
			if err := json.Unmarshal(data, &a); err != nil || got.StatusCode != row.want || a.Code != row.want || !strings.Contains(a.Message, row.says) {
				t.Errorf("answered %s: %s (%v); want %d with %q", got.Status, data, err, row.want, row.says)
			}
			if len(data) > 4096 {
				t.Errorf("the error is %d bytes long", len(data))
			}
		})
	}
	t.Run("a body that never ends", func(t *testing.T) {
		conn := dial(t, s)
		fmt.Fprint(conn, "POST /v2/sandboxes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
		chunk := fmt.Sprintf("%x\r\n%s\r\n", 32<<10, strings.Repeat(" ", 32<<10))
		for range 1000 {
			if _, err := io.WriteString(conn, chunk); err != nil {
				return // cut off, as it should be
			}
		}
		t.Error("32 MB of a body were taken")
	})
	if ids := s.list(); len(ids) != 1 || ids[0] != id {
		t.Errorf("after all this the sandboxes are %v, want %s alone", ids, id)
	}
}

func TestBadTraffic(t *testing.T) {
	s := start(t)
	id := s.create().SandboxID
	for _, row := range []struct {
		name, host, headers string
		want                int
		says                string
	}{
		{"no port", "localhost", "E2b-Sandbox-Id: " + id, 400, "E2b-Sandbox-Port"},
		{"port 0", "localhost", "E2b-Sandbox-Id: " + id + "\r\nE2b-Sandbox-Port: 0", 400, "1 to 65535"},
		{"port 65536", "localhost", "E2b-Sandbox-Id: " + id + "\r\nE2b-Sandbox-Port: 65536", 400, "1 to 65535"},
		{"a port of words", "localhost", "E2b-Sandbox-Id: " + id + "\r\nE2b-Sandbox-Port: http", 400, "1 to 65535"},
		{"an id with dots", "localhost", "E2b-Sandbox-Id: ../health\r\nE2b-Sandbox-Port: 80", 502, "The sandbox was not found"},
		{"an id that is not there", "80-i00000000000000000000.localhost", "X: y", 502, "The sandbox was not found"},
		{"a closed port", "81-" + id + ".localhost", "X: y", 502, "The sandbox is running but port is not open"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := raw(t, s, fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n", row.host, row.headers))
			data, _ := io.ReadAll(got.Body)
			if got.StatusCode != row.want || !strings.Contains(string(data), row.says) {
				t.Errorf("answered %s: %s; want %d with %q", got.Status, data, row.want, row.says)
			}
		})
	}
	t.Run("the agent's settings from outside", func(t *testing.T) {
		for _, path := range []string{"/init", "//init", "/%69nit", "/./init", "/INIT", "/x/../init"} {
			got := raw(t, s, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: 49983-%s.localhost\r\nContent-Length: 2\r\n\r\n{}", path, id))
			if got.StatusCode != 404 {
				t.Errorf("POST %s: %s, want 404", path, got.Status)
			}
		}
	})
	t.Run("the agent without its token", func(t *testing.T) {
		if status, _ := s.call("GET", "/metrics", nil, "E2b-Sandbox-Id", id, "E2b-Sandbox-Port", "49983"); status != 401 {
			t.Errorf("answered %d, want 401", status)
		}
	})
}

// TestIdempotentCreate repeats a create as a client does that got no answer.
func TestIdempotentCreate(t *testing.T) {
	s := start(t)
	body := map[string]any{"templateID": "base", "timeout": 300}
	status, first := s.call("POST", "/v2/sandboxes", body, "Idempotency-Key", "abc")
	if status != 201 {
		t.Fatalf("%d %s", status, first)
	}
	s.crash() // the key outlives the server
	status, second := s.call("POST", "/v2/sandboxes", body, "Idempotency-Key", "abc")
	if status != 201 || !bytes.Equal(first, second) {
		t.Errorf("the second answer is %d %s, the first was %s", status, second, first)
	}
	if status, answer := s.call("POST", "/v2/sandboxes", map[string]any{"templateID": "base", "timeout": 301}, "Idempotency-Key", "abc"); status != 409 {
		t.Errorf("another body: %d %s, want 409", status, answer)
	}
	if ids := s.list(); len(ids) != 1 {
		t.Errorf("%d sandboxes run, want 1", len(ids))
	}
}

// TestCreateTellsItsStages and what it did not understand.
func TestCreateTellsItsStages(t *testing.T) {
	s := start(t)
	resp, err := http.Post(s.url+"/sandboxes", "application/json", strings.NewReader(`{"templateID":"base","timeout":60,"colour":"red","autoPause":false,"network":{"allowPublicTraffic":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 201 {
		t.Fatal(resp.Status)
	}
	for _, stage := range []string{"queue;dur=", "root;dur=", "network;dur=", "boot;dur=", "agent;dur=", "total;dur="} {
		if !strings.Contains(resp.Header.Get("Server-Timing"), stage) {
			t.Errorf("Server-Timing %q has no %s", resp.Header.Get("Server-Timing"), stage)
		}
	}
	if warning := resp.Header.Get("Warning"); !strings.Contains(warning, "colour") {
		t.Errorf("Warning %q does not name the field", warning)
	}
	var created sandbox
	if err := json.NewDecoder(resp.Body).Decode(&created); err != nil || created.EnvdAccessToken != "" {
		t.Errorf("the first version secures what is not asked to be: %+v, %v", created, err)
	}
}

// TestWhyASandboxEnded reads the reason after each kind of end.
func TestWhyASandboxEnded(t *testing.T) {
	s := start(t, "--sandbox-memory", "128")
	for reason, end := range map[string]func(sandbox){
		"killed":   func(c sandbox) { s.kill(c.SandboxID) },
		"deadline": func(c sandbox) { s.call("POST", "/sandboxes/"+c.SandboxID+"/timeout", map[string]int{"timeout": 0}) },
		// tail keeps what it reads until there is a line's end.
		"out_of_memory": func(c sandbox) { s.command(c, "tail /dev/zero") },
		"crashed":       func(c sandbox) { s.command(c, "kill -TERM 1; sleep 30") },
	} {
		t.Run(reason, func(t *testing.T) {
			created := s.create()
			end(created)
			deadline := time.Now().Add(30 * time.Second)
			for {
				status, data := s.call("GET", "/sandboxes/"+created.SandboxID, nil)
				var a answered
				if err := json.Unmarshal(data, &a); err != nil {
					t.Fatal(err)
				}
				if status == 404 && a.Ended != nil {
					if a.Ended.Reason != reason || a.Ended.Detail == "" || (reason == "killed") != (a.Ended.By != "") {
						t.Errorf("ended %+v, want %s", *a.Ended, reason)
					}
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("still %d %s", status, data)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// command runs a command as root through the agent's protocol and does not care
// how it ends.
func (s *server) command(c sandbox, script string) {
	message, err := json.Marshal(map[string]any{"process": map[string]any{"cmd": "/bin/bash", "args": []string{"-c", script}}, "stdin": false})
	if err != nil {
		s.t.Fatal(err)
	}
	frame := append([]byte{0, 0, 0, byte(len(message) >> 8), byte(len(message))}, message...)
	req, err := http.NewRequest("POST", s.url+"/process.Process/Start", bytes.NewReader(frame))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/connect+json")
	req.Header.Set("Connect-Protocol-Version", "1")
	req.Header.Set("E2b-Sandbox-Id", c.SandboxID)
	req.Header.Set("E2b-Sandbox-Port", "49983")
	req.Header.Set("X-Access-Token", c.EnvdAccessToken)
	req.SetBasicAuth("root", "")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

func dial(t *testing.T, s *server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBadInputIsRefusedWithAReason(t *testing.T) {
	h := newAPI(t)
	id := create(t, h, "/v2/sandboxes", `{"templateID":"base"}`)["sandboxID"].(string)
	const absent = "i00000000000000000000"
	pairs := func(n int, format string) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(list, ",")
	}
	for _, row := range []struct {
		name, method, target, body string
		want                       int
		says                       string
	}{
		{"no body", "POST", "/v2/sandboxes", ``, 400, "empty"},
		{"no JSON", "POST", "/v2/sandboxes", `{"templateID`, 400, "not a JSON object"},
		{"a list", "POST", "/v2/sandboxes", `[]`, 400, "must be a JSON object"},
		{"null", "POST", "/v2/sandboxes", `null`, 400, "must be a JSON object"},
		{"two objects", "POST", "/v2/sandboxes", `{"templateID":"base"}{}`, 400, "goes on"},
		{"very deep", "POST", "/v2/sandboxes", `{"network":` + strings.Repeat("[", 100_000), 400, "JSON"},
		{"too large", "POST", "/v2/sandboxes", strings.Repeat(" ", maxBody+1), 413, "1048576"},
		{"an unknown template", "POST", "/v2/sandboxes", `{"templateID":"nope"}`, 404, "nope"},
		{"no template", "POST", "/v2/sandboxes", `{"timeout":1}`, 400, "templateID is missing"},
		{"a template in another case", "POST", "/v2/sandboxes", `{"templateid":"base"}`, 400, "templateID is missing"},
		{"a template that is a number", "POST", "/v2/sandboxes", `{"templateID":1}`, 400, `"templateID" has number where a string belongs`},
		{"no time", "POST", "/sandboxes", `{"templateID":"base","timeout":0}`, 400, "Timeout must be greater than 0"},
		{"less than no time", "POST", "/sandboxes", `{"templateID":"base","timeout":-1}`, 400, "Timeout must be greater than 0"},
		{"half a second", "POST", "/sandboxes", `{"templateID":"base","timeout":0.5}`, 400, "number 0.5 where a whole number belongs"},
		{"too long", "POST", "/v2/sandboxes", `{"templateID":"base","timeout":86401}`, 400, "at most 86400 seconds"},
		{"longer than a duration can be", "POST", "/v2/sandboxes", `{"templateID":"base","timeout":9223372036854775807}`, 400, "at most 86400 seconds"},
		{"longer than a number can be", "POST", "/v2/sandboxes", `{"templateID":"base","timeout":1` + strings.Repeat("0", 100_000) + `}`, 400, "whole number"},
		{"101 pairs of metadata", "POST", "/v2/sandboxes", `{"templateID":"base","metadata":{` + pairs(101, `"k%d":"v"`) + `}}`, 400, "at most 100"},
		{"100,000 pairs of metadata", "POST", "/v2/sandboxes", `{"templateID":"base","metadata":{` + pairs(100_000, `"key%d":"v"`) + `}}`, 413, "larger"},
		{"metadata that is a number", "POST", "/v2/sandboxes", `{"templateID":"base","metadata":{"a":1}}`, 400, `"metadata" has number where a string belongs`},
		{"a long value", "POST", "/v2/sandboxes", `{"templateID":"base","metadata":{"a":"` + strings.Repeat("v", maxPairSize) + `"}}`, 400, "longer"},
		{"a variable without a name", "POST", "/v2/sandboxes", `{"templateID":"base","envVars":{"":"v"}}`, 400, "envVars"},
		{"a variable named A=B", "POST", "/v2/sandboxes", `{"templateID":"base","envVars":{"A=B":"v"}}`, 400, "A=B"},
		{"a zero byte", "POST", "/v2/sandboxes", `{"templateID":"base","envVars":{"A":"\u0000"}}`, 400, "zero byte"},
		{"1,001 variables", "POST", "/v2/sandboxes", `{"templateID":"base","envVars":{` + pairs(1001, `"K%d":"v"`) + `}}`, 400, "at most 1000"},
		{"an id of another form", "GET", "/sandboxes/INVALID", ``, 404, "INVALID"},
		{"an id that leads elsewhere", "GET", "/sandboxes/..%2f..%2fhealth", ``, 404, "not found"},
		{"an id that is not there", "GET", "/sandboxes/" + absent, ``, 404, absent},
		{"killing what is not there", "DELETE", "/sandboxes/" + absent, ``, 404, absent},
		{"connecting to what is not there", "POST", "/v2/sandboxes/" + absent + "/connect", ``, 404, absent},
		{"connecting for no time", "POST", "/sandboxes/" + id + "/connect", `{}`, 400, "timeout is missing"},
		{"connecting without a body", "POST", "/sandboxes/" + id + "/connect", ``, 400, "empty"},
		{"connecting for less than no time", "POST", "/v2/sandboxes/" + id + "/connect", `{"timeout":-1}`, 400, "negative"},
		{"no deadline", "POST", "/sandboxes/" + id + "/timeout", `{"timeout":null}`, 400, "timeout is missing"},
		{"a deadline that is too far", "POST", "/sandboxes/" + id + "/timeout", `{"timeout":86401}`, 400, "at most 86400 seconds"},
		{"a refresh that is too long", "POST", "/sandboxes/" + id + "/refreshes", `{"duration":3601}`, 400, "0 to 3600"},
		{"a refresh into the past", "POST", "/sandboxes/" + id + "/refreshes", `{"duration":-1}`, 400, "0 to 3600"},
		{"a page of none", "GET", "/v2/sandboxes?limit=0", ``, 400, "limit must be a number from 1 to 100"},
		{"a page of 101", "GET", "/v2/sandboxes?limit=101", ``, 400, "limit must be a number from 1 to 100"},
		{"a page of words", "GET", "/v2/sandboxes?limit=all", ``, 400, "limit must be a number from 1 to 100"},
		{"a state of tomorrow", "GET", "/v2/sandboxes?state=running,flying", ``, 400, "state must be"},
		{"an order of its own", "GET", "/v2/sandboxes?order=random", ``, 400, "asc or desc"},
		{"a time of day", "GET", "/v2/sandboxes?startedAfter=noon", ``, 400, "startedAfter"},
		{"a token of somebody else", "GET", "/v2/sandboxes?nextToken=abc", ``, 400, "token"},
		{"a filter with a bad escape", "GET", "/v2/sandboxes?metadata=a%253D%25zz", ``, 400, "metadata"},
		{"a filter for two values of a key", "GET", "/sandboxes?metadata=a%3D1%26a%3D2", ``, 400, "more than once"},
		{"a filter of 101 pairs", "GET", "/v2/sandboxes?metadata=" + strings.ReplaceAll(pairs(101, "k%d"), ",", "%26"), ``, 400, "at most 100"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got struct {
				Code    int
				Message string
			}
			resp := call(t, h, row.method, row.target, row.body, &got)
			if resp.StatusCode != row.want || got.Code != row.want || !strings.Contains(got.Message, row.says) {
				t.Errorf("answered %s %+v; want %d with %q", resp.Status, got, row.want, row.says)
			}
			if len(got.Message) > 1000 || strings.Contains(got.Message, "api.") {
				t.Errorf("no message for a user: %s", got.Message)
			}
		})
	}
	var left []struct{ SandboxID string }
	if call(t, h, "GET", "/sandboxes", "", &left); len(left) != 1 || left[0].SandboxID != id {
		t.Errorf("after all this the sandboxes are %v, want %s alone", left, id)
	}
}

func TestABodyThatDoesNotArriveIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := http.Server{Handler: New(Config{Log: slog.New(slog.DiscardHandler)})}
		client, conn := net.Pipe()
		listener := make(pipeListener, 1)
		listener <- conn
		go func() { _ = server.Serve(listener) }()
		defer func() { _ = server.Close() }()

		start := time.Now()
		if _, err := io.WriteString(client, "POST /v2/sandboxes HTTP/1.1\r\nHost: api\r\nContent-Length: 100\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Message string }
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); resp.StatusCode != 400 || took != bodyTimeout || !strings.Contains(got.Message, "did not arrive within 30s") {
			t.Errorf("after %s answered %s: %s", took, resp.Status, got.Message)
		}
	})
}

// pipeListener is a net.Listener for pipes.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	if conn, ok := <-l; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l pipeListener) Close() error { close(l); return nil }
func (pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

package envd

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func (a *agent) record(query, key string) (answer, record) {
	a.t.Helper()
	got := a.do(http.MethodGet, "/record"+query, nil, http.Header{hostKeyHeader: {key}})
	var r record
	if got.status == http.StatusOK {
		if err := json.Unmarshal([]byte(got.body), &r); err != nil {
			a.t.Fatal(err)
		}
	}
	return got, r
}

func TestTheServerFetchesWhatProcessesPrint(t *testing.T) {
	const key = "key of the host"
	a := start(t, func(r *initRequest) { r.SandboxID = "one" })
	a.start(t.Context(), shell("echo out; echo err >&2; printf unfinished; exit 3")).finish()
	_, r := a.record("", key)
	of := map[string][]string{}
	for _, line := range r.Logs.Lines {
		of[line.Level] = append(of[line.Level], line.Message)
		if line.Fields["pid"] == "" {
			t.Errorf("%+v names no process", line)
		}
	}
	if strings.Join(of["info"], "|") != "out|unfinished" || strings.Join(of["error"], "|") != "err" ||
		strings.Join(of["debug"], "|") != "process started: /bin/sh|process ended: exit status 3" {
		t.Errorf("the lines are %+v", of)
	}
	if r.Metrics.MemTotal == 0 {
		t.Errorf("the metrics are %+v", r.Metrics)
	}
	if _, again := a.record("?epoch="+r.Logs.Epoch+"&seq=5", key); len(again.Logs.Lines) != 0 {
		t.Errorf("again: %+v", again.Logs)
	}
	a.mustInit(key, initRequest{HostKey: key, SandboxID: "one"})
	if _, same := a.record("", key); len(same.Logs.Lines) != 5 {
		t.Errorf("the same sandbox has lost lines: %+v", same.Logs)
	}
	a.mustInit(key, initRequest{HostKey: key, SandboxID: "another"})
	if _, other := a.record("", key); len(other.Logs.Lines) != 0 || other.Logs.Epoch == r.Logs.Epoch {
		t.Errorf("another sandbox has the lines of the first: %+v", other.Logs)
	}
	for _, wrong := range []string{"", "another key"} {
		if got, _ := a.record("", wrong); got.status != http.StatusUnauthorized {
			t.Errorf("with the key %q: %d %s", wrong, got.status, got.body)
		}
	}
	if got, _ := a.record("?seq=x", key); got.status != http.StatusBadRequest {
		t.Errorf("%d", got.status)
	}
}

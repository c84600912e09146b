package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func portOf(t *testing.T, s *httptest.Server) int {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestNamesAreChangedBothWays(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Host, "127.0.0.1:") || r.Header.Get("Origin") != "" {
			http.Error(w, "Host header is specified and is not an IP address or localhost.", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, `{"webSocketDebuggerUrl":"ws://%s/devtools/browser/1","devtoolsFrontendUrl":"/devtools/inspector.html?ws=%[1]s/devtools/page/2"}`, r.Host)
	}))
	defer inner.Close()
	outer := httptest.NewServer(newProxy(portOf(t, inner)))
	defer outer.Close()
	for scheme, forwarded := range map[string]string{"ws": "", "wss": "https"} {
		req, err := http.NewRequest(http.MethodGet, outer.URL+"/json/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "9222-abc.sandbox.example"
		req.Header.Set("Origin", "https://elsewhere.example")
		req.Header.Set("X-Forwarded-Proto", forwarded)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := fmt.Sprintf(`{"webSocketDebuggerUrl":"%s://9222-abc.sandbox.example/devtools/browser/1","devtoolsFrontendUrl":"/devtools/inspector.html?%[1]s=9222-abc.sandbox.example/devtools/page/2"}`, scheme)
		if string(body) != want {
			t.Errorf("it says %s; want %s", body, want)
		}
	}
	inner.Close()
	if err := answers(portOf(t, outer)); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("without Chromium the error is %v", err)
	}
}

func TestChromiumIsStartedAgain(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "chromium")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\" >> "+dir+"/runs\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); keep(ctx, program, 1234) }()
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		runs, _ := os.ReadFile(filepath.Join(dir, "runs"))
		if strings.Count(string(runs), "--remote-debugging-port=1234 ") >= 2 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("it was run with %q", runs)
		}
	}
	cancel()
	<-ended
}

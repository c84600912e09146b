package main

import (
	"net"
	"strings"
	"testing"
	"time"
)

const getSandboxes = "GET /sandboxes HTTP/1.1\r\nHost: cube\r\nX-API-Key: key\r\n\r\n"

func startedOrigin(t *testing.T, a answer) *origin {
	o, err := startOrigin(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.down)
	return o
}

func statuses(outcomes []outcome) map[int]int {
	counts := map[int]int{}
	for _, o := range outcomes {
		counts[o.status]++
	}
	return counts
}

func TestALoadCountsEveryRequest(t *testing.T) {
	for name, test := range map[string]struct {
		answer answer
		want   map[int]int
	}{
		"allows":  {allow, map[int]int{200: 20}},
		"refuses": {refuse, map[int]int{401: 20}},
		"resets":  {reset, map[int]int{0: 20}},
		"hangs":   {hang, map[int]int{0: 20}},
		"chunks":  {say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), map[int]int{200: 20}},
		"closes": {func(c net.Conn, n int) bool {
			say("HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")(c, n)
			return false
		}, map[int]int{503: 20}},
	} {
		t.Run(name, func(t *testing.T) {
			o := startedOrigin(t, test.answer)
			got, err := load{addr: o.addr, request: []byte(getSandboxes), perSecond: 1000, count: 20, maxConnections: 20, patience: 200 * time.Millisecond}.run()
			if err != nil {
				t.Fatal(err)
			}
			for status, n := range test.want {
				if statuses(got)[status] != n || len(got) != n {
					t.Errorf("got %v, want %v", statuses(got), test.want)
				}
			}
			if n := o.questions.Load(); n != 20 {
				t.Errorf("%d requests arrived", n)
			}
		})
	}
}

func TestAnOpenLoopDoesNotWaitForAnswers(t *testing.T) {
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	o := startedOrigin(t, func(c net.Conn, n int) bool {
		arrived <- struct{}{}
		<-release
		return allow(c, n)
	})
	done := make(chan []outcome)
	go func() {
		got, err := load{addr: o.addr, request: []byte(getSandboxes), perSecond: 1000, count: 10, maxConnections: 10}.run()
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	for range 10 {
		<-arrived
	}
	close(release)
	if got := statuses(<-done); got[200] != 10 {
		t.Errorf("got %v", got)
	}
}

func TestHeadsAreKeptAsTheyCame(t *testing.T) {
	o := startedOrigin(t, allow)
	heads := o.recorded(func() {
		_, err := load{addr: o.addr, request: []byte("GET //a%2Fb HTTP/1.1\r\nx_auth.team:  root \r\nX-Auth-Team: b\r\n\r\n"), count: 1, connections: 1}.run()
		if err != nil {
			t.Fatal(err)
		}
	})
	if len(heads) != 1 {
		t.Fatalf("%d heads", len(heads))
	}
	if method, target := heads[0].line(); method != "GET" || target != "//a%2Fb" {
		t.Errorf("line %s %s", method, target)
	}
	if got := strings.Join(heads[0].values("X-Auth-Team"), "|"); got != "root|b" {
		t.Errorf("values %q", got)
	}
}
